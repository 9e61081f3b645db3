//! The names that users can have, and how frequent each is nationwide.
//!
//! Read once from the tables beside this file. Does not depend on a single app.

use std::sync::LazyLock;

use crate::portrait::Dimension;

/// A name of one dimension.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: Option<u32>,
    pub(super) name: &'static str,
    pub(super) weight: f64,
    /// A city lies in a province, and a model has a platform: its index there.
    pub(super) parent: Option<(Dimension, usize)>,
}

/// The entries of every dimension.
pub(super) struct Catalog([Vec<Entry>; Dimension::ALL.len()]);

impl Catalog {
    pub(super) fn entries(&self, dimension: Dimension) -> &[Entry] {
        &self.0[dimension as usize]
    }
}

/// The names of the country, read at first use.
pub(super) static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let (provinces, cities) = places();
    let platforms = numbered(&[("iPhone", 33.0), ("Android", 61.0), ("其他", 6.0)]);
    let devices = devices(&platforms);
    Catalog([
        provinces,
        cities,
        numbered(&[("男", 43.0), ("女", 51.0), ("未知", 6.0)]),
        platforms,
        devices,
        numbered(&[
            ("17岁以下", 4.0),
            ("18-24岁", 21.0),
            ("25-29岁", 19.0),
            ("30-39岁", 29.0),
            ("40-49岁", 14.0),
            ("50岁以上", 8.0),
            ("未知", 5.0),
        ]),
    ])
});

fn numbered(names: &[(&'static str, f64)]) -> Vec<Entry> {
    (1..)
        .zip(names)
        .map(|(id, (name, weight))| Entry {
            id: Some(id),
            name,
            weight: *weight,
            parent: None,
        })
        .collect()
}

/// Returns the lines of a table, without its comments.
fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#'))
}

fn places() -> (Vec<Entry>, Vec<Entry>) {
    let mut provinces = Vec::new();
    let mut cities = Vec::new();
    for (id, line) in (1..).zip(lines(include_str!("places.txt"))) {
        let mut words = line.split(' ');
        let province = words.next().unwrap_or_default();
        let weight: f64 = words
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0.0);
        let names: Vec<&str> = words.collect();
        let parent = Some((Dimension::Province, provinces.len()));
        // The city of rank n has about 1/n of the people of the first, as in reality.
        let all: f64 = (1..).zip(&names).map(|(rank, _)| share_of_rank(rank)).sum();
        for (rank, name) in (1..).zip(&names) {
            cities.push(Entry {
                // WeChat uses Shanghai's number as a province for the city, too.
                id: Some(if names.len() == 1 {
                    id
                } else {
                    id * 100 + rank
                }),
                name,
                weight: weight * share_of_rank(rank) / all,
                parent,
            });
        }
        provinces.push(Entry {
            id: Some(id),
            name: province,
            weight,
            parent: None,
        });
    }
    (provinces, cities)
}

fn share_of_rank(rank: u32) -> f64 {
    1.0 / (f64::from(rank) + 0.5)
}

fn devices(platforms: &[Entry]) -> Vec<Entry> {
    let rows: Vec<(usize, f64, &str)> = lines(include_str!("devices.txt"))
        .filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let platform = words.next()?;
            let platform = platforms.iter().position(|entry| entry.name == platform)?;
            Some((platform, words.next()?.parse().ok()?, words.next()?))
        })
        .collect();
    let total = |platform: usize| -> f64 {
        let of_platform = rows.iter().filter(|row| row.0 == platform);
        of_platform.map(|(_, weight, _)| weight).sum()
    };
    rows.iter()
        .map(|&(platform, weight, name)| Entry {
            id: None,
            name,
            weight: platforms[platform].weight * weight / total(platform),
            parent: Some((Dimension::Platform, platform)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(dimension: Dimension) -> Vec<&'static str> {
        let entries = CATALOG.entries(dimension);
        entries.iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn the_tables_are_read_to_the_last_line() {
        assert_eq!(names(Dimension::Province).len(), 34);
        assert_eq!(names(Dimension::City).len(), 379);
        assert_eq!(
            names(Dimension::Device).len(),
            lines(include_str!("devices.txt")).count()
        );
        for dimension in Dimension::ALL {
            for entry in CATALOG.entries(dimension) {
                assert!(entry.weight > 0.0, "{entry:?}");
                assert_eq!(entry.name, entry.name.trim());
                assert!(!entry.name.is_empty());
            }
        }
    }

    #[test]
    fn only_jilin_is_a_duplicate_name() {
        for dimension in Dimension::ALL {
            let mut seen = BTreeSet::new();
            let mut twice = names(dimension);
            twice.retain(|name| !seen.insert(*name));
            let expected: &[&str] = match dimension {
                Dimension::City => &["吉林"],
                _ => &[],
            };
            assert_eq!(twice, expected, "{dimension}");
        }
    }

    #[test]
    fn every_place_name_is_chinese() {
        let chinese = |name: &str| name.chars().all(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        for dimension in [Dimension::Province, Dimension::City] {
            for name in names(dimension) {
                assert!(chinese(name) && name.chars().count() >= 2, "{name}");
            }
        }
    }

    #[test]
    fn ids_are_those_of_the_documentation() {
        let id = |dimension, name| {
            let mut entries = CATALOG.entries(dimension).iter();
            entries
                .find(|entry| entry.name == name)
                .and_then(|entry| entry.id)
        };
        assert_eq!(id(Dimension::Province, "上海"), Some(11));
        assert_eq!(id(Dimension::City, "上海"), Some(11));
        assert_eq!(id(Dimension::Province, "广东省"), Some(31));
        assert_eq!(id(Dimension::City, "广州"), Some(3102));
        assert_eq!(id(Dimension::Age, "25-29岁"), Some(3));
    }
}
