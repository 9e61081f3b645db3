//! The lines of all apps, joined in blocks of some dozens.
//!
//! Of every block and family the joined lines are kept until one of the apps has others, so that a scrape copies
//! only what has changed since the last one. Nothing is held twice: the pieces of an app are parts of what is
//! joined. Does not depend on which families there are.

use super::gzip::Piece;
use crate::portrait::{AppId, Window};

/// A block that has more than twice as many apps is divided.
const APPS: usize = 64;

/// After so many changes the lines of a block are joined without a scrape: lines of many apps that are still to become
/// parts of it would leave as many holes in memory.
const CHANGES: usize = 16;

/// The lines of an app.
#[derive(Debug)]
pub(super) struct App {
    /// Its windows.
    pub(super) windows: Vec<Window>,
    /// By family: one piece for each window, or one for the app.
    pub(super) families: Vec<Vec<Piece>>,
}

/// All apps, sorted by appid.
#[derive(Debug, Default)]
pub(super) struct Blocks(Vec<Block>);

/// Neighbouring apps, at least one.
#[derive(Debug)]
struct Block {
    apps: Vec<(AppId, App)>,
    /// By family: the lines of all its apps, `None` if some have changed since they were joined.
    joined: Vec<Option<Piece>>,
    /// How often an app got other lines since they were joined.
    changes: usize,
}

impl Blocks {
    /// Returns the lines of an app.
    pub(super) fn get(&self, appid: &AppId) -> Option<&App> {
        let block = self.0.get(self.index(appid))?;
        let place = block.find(appid).ok()?;
        Some(&block.apps[place].1)
    }

    /// Adds an app, or replaces its lines.
    pub(super) fn set(&mut self, appid: AppId, app: App) {
        let index = self.index(&appid);
        let Some(block) = self.0.get_mut(index) else {
            self.0.push(Block::new(vec![(appid, app)]));
            return;
        };
        match block.find(&appid) {
            Ok(place) => block.replace(place, app),
            Err(place) => {
                block.apps.insert(place, (appid, app));
                block.joined.fill(None);
                if block.apps.len() > 2 * APPS {
                    let rest = block.apps.split_off(APPS);
                    self.0.insert(index + 1, Block::new(rest));
                }
            }
        }
    }

    /// Removes an app.
    pub(super) fn remove(&mut self, appid: &AppId) {
        let index = self.index(appid);
        if let Some(block) = self.0.get_mut(index)
            && let Ok(place) = block.find(appid)
        {
            block.apps.remove(place);
            block.joined.fill(None);
            if block.apps.is_empty() {
                self.0.remove(index);
            }
        }
    }

    /// Returns the lines of one family of all apps, joined.
    pub(super) fn join(&mut self, family: usize) -> impl Iterator<Item = Piece> {
        self.0.iter_mut().map(move |block| block.join(family))
    }

    /// Returns which block has an app, if there is any with it.
    fn index(&self, appid: &AppId) -> usize {
        let is_before = |block: &Block| block.apps.first().is_some_and(|(first, _)| first <= appid);
        self.0.partition_point(is_before).saturating_sub(1)
    }
}

impl Block {
    fn new(apps: Vec<(AppId, App)>) -> Self {
        let families = apps.first().map_or(0, |(_, app)| app.families.len());
        Self {
            apps,
            joined: vec![None; families],
            changes: 0,
        }
    }

    /// Returns the place of an app, or where it would be.
    fn find(&self, appid: &AppId) -> Result<usize, usize> {
        self.apps.binary_search_by(|(other, _)| other.cmp(appid))
    }

    fn replace(&mut self, place: usize, mut app: App) {
        let before = &mut self.apps[place].1;
        let families = app.families.iter_mut().zip(&mut before.families);
        let mut is_other = false;
        for ((pieces, before), joined) in families.zip(&mut self.joined) {
            if pieces == before {
                // These are parts of what is joined.
                std::mem::swap(pieces, before);
            } else {
                *joined = None;
                is_other = true;
            }
        }
        *before = app;
        self.changes += usize::from(is_other);
        if self.changes >= CHANGES {
            for family in 0..self.joined.len() {
                self.join(family);
            }
        }
    }

    fn join(&mut self, family: usize) -> Piece {
        self.changes = 0;
        let apps = &mut self.apps;
        let join = || {
            let pieces = apps
                .iter_mut()
                .flat_map(|(_, app)| &mut app.families[family]);
            Piece::join(pieces.collect())
        };
        self.joined[family].get_or_insert_with(join).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::exposition::gzip::Member;

    const FAMILIES: usize = 2;

    fn text(pieces: impl Iterator<Item = Piece>) -> String {
        let mut member = Member::default();
        pieces.for_each(|piece| member.push(piece));
        String::from_utf8(member.plain().flatten().collect()).unwrap()
    }

    /// A change, and whether there is a scrape after it.
    type Step = (u16, Option<[u8; FAMILIES]>, bool);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Figures repeat, so that some lines stay the same.
        let lines = proptest::option::weighted(0.9, [0_u8..3, 0_u8..3]);
        let step = (0_u16..400, lines, proptest::bool::weighted(0.1));
        proptest::collection::vec(step, 0..600)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn a_scrape_has_the_last_lines_of_every_app(steps in steps()) {
            let mut blocks = Blocks::default();
            let mut expected = BTreeMap::new();
            let last = (0, None, true);
            for (number, lines, is_scraped) in steps.into_iter().chain([last]) {
                let appid: AppId = format!("wx{number}").parse().unwrap();
                if let Some(lines) = lines {
                    let texts = lines.map(|line| format!("{appid} {line}\n").repeat(line.into()));
                    let families = texts.iter().map(|text| vec![Piece::new(text)]);
                    let app = App { windows: vec![], families: families.collect() };
                    blocks.set(appid.clone(), app);
                    expected.insert(appid, texts);
                } else {
                    blocks.remove(&appid);
                    expected.remove(&appid);
                }
                if !is_scraped {
                    continue;
                }
                for family in 0..FAMILIES {
                    let whole: String = expected.values().map(|texts| &*texts[family]).collect();
                    prop_assert_eq!(text(blocks.join(family)), whole);
                }
                for (appid, texts) in &expected {
                    let app = blocks.get(appid).unwrap();
                    for (pieces, expected) in app.families.iter().zip(texts) {
                        prop_assert_eq!(&text(pieces.iter().cloned()), expected);
                    }
                }
                let apps: usize = blocks.0.iter().map(|block| block.apps.len()).sum();
                prop_assert_eq!(apps, expected.len());
                let is_small = |block: &Block| (1..=2 * APPS).contains(&block.apps.len());
                prop_assert!(blocks.0.iter().all(is_small));
            }
        }
    }

    #[test]
    fn only_what_has_changed_is_joined_again() {
        let mut blocks = Blocks::default();
        let set = |blocks: &mut Blocks, number: usize, texts: [&str; FAMILIES]| {
            let families = texts.map(|text| vec![Piece::new(text)]).into();
            let app = App {
                windows: vec![],
                families,
            };
            blocks.set(format!("wx{number:03}").parse().unwrap(), app);
        };
        for number in 0..3 * APPS {
            set(&mut blocks, number, ["a\n", "b\n"]);
        }
        let is_joined = |blocks: &Blocks| -> Vec<Vec<bool>> {
            let joined = blocks.0.iter().map(|block| &block.joined);
            joined
                .map(|joined| joined.iter().map(Option::is_some).collect())
                .collect()
        };
        for family in 0..FAMILIES {
            assert_eq!(blocks.join(family).count(), 2);
        }
        set(&mut blocks, 1, ["a\n", "b\n"]);
        assert_eq!(is_joined(&blocks), [[true, true], [true, true]]);
        set(&mut blocks, 2 * APPS, ["a\n", "c\n"]);
        assert_eq!(is_joined(&blocks), [[true, true], [true, false]]);
        for number in 1..CHANGES {
            assert_eq!(is_joined(&blocks)[1], [true, false]);
            set(&mut blocks, 2 * APPS + number, ["a\n", "c\n"]);
        }
        assert_eq!(is_joined(&blocks)[1], [true, true]);
    }
}
