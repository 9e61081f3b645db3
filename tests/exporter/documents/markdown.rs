//! The contents of a document: headings, blocks, links and code, each with its line.
//!
//! Knows Markdown and the anchors of headings as GitHub generates them; does not depend on the purpose of a block.

use std::collections::BTreeMap;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use regex::Regex;
use url::Url;

/// The prefix of links to this project that must work anywhere.
const HERE: &str = "https://git.internal/wxapp-portrait-exporter/";

#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) path: String,
    /// Level and text.
    pub(crate) headings: Vec<(usize, String)>,
    pub(crate) blocks: Vec<Block>,
    /// Links and images.
    pub(crate) links: Vec<(usize, String)>,
    /// Inline code.
    pub(crate) code: Vec<(usize, String)>,
    /// The numbers of rows of the tables.
    pub(crate) tables: Vec<usize>,
}

/// Returns the path of the document that one is a translation of, if it is one.
pub(crate) fn original_of(path: &str) -> Option<String> {
    match path.strip_prefix("docs/zh-CN/") {
        Some(rest) if rest.starts_with("deploy/") => Some(rest.to_owned()),
        Some(rest) => Some(format!("docs/{rest}")),
        None => path
            .contains(".zh-CN.")
            .then(|| path.replace(".zh-CN.", ".")),
    }
}

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) line: usize,
    pub(crate) language: String,
    pub(crate) text: String,
}

impl Block {
    /// Returns its language and text without the comments of YAML and of shells.
    pub(crate) fn without_comments(&self) -> String {
        let comment = Regex::new(r"(?m)(^|\s+)# .*$").unwrap();
        format!("{}\n{}", self.language, comment.replace_all(&self.text, ""))
    }
}

impl Document {
    pub(crate) fn read(path: &str, text: &str) -> Self {
        let mut document = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        let (mut in_heading, mut in_block) = (false, false);
        for (event, place) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = 1 + text[..place.start].matches('\n').count();
            match event {
                Event::Start(Tag::Heading { level, .. }) => {
                    in_heading = true;
                    document.headings.push((level as usize, String::new()));
                }
                Event::End(TagEnd::Heading(_)) => in_heading = false,
                Event::Start(Tag::CodeBlock(kind)) => {
                    in_block = true;
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.to_string(),
                        CodeBlockKind::Indented => "an indented block".to_owned(),
                    };
                    let text = String::new();
                    document.blocks.push(Block {
                        line,
                        language,
                        text,
                    });
                }
                Event::End(TagEnd::CodeBlock) => in_block = false,
                Event::Start(Tag::Table(_)) => document.tables.push(0),
                Event::Start(Tag::TableRow) => *document.tables.last_mut().unwrap() += 1,
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    document.links.push((line, dest_url.to_string()));
                }
                Event::Text(text) if in_block => document.blocks.last_mut().unwrap().text += &text,
                Event::Text(text) if in_heading => document.headings.last_mut().unwrap().1 += &text,
                Event::Code(code) => {
                    if in_heading {
                        document.headings.last_mut().unwrap().1 += &code;
                    }
                    document.code.push((line, code.to_string()));
                }
                _ => {}
            }
        }
        document
    }

    /// Returns the anchors of all headings, in their order.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for (_, heading) in &self.headings {
            let kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
            let anchor: String = heading.to_lowercase().chars().filter(kept).collect();
            let anchor = anchor.replace(' ', "-");
            let again = (1..).map(|count| format!("{anchor}-{count}"));
            let mut names = std::iter::once(anchor.clone()).chain(again);
            anchors.push(names.find(|name| !anchors.contains(name)).unwrap());
        }
        anchors
    }

    /// Returns the path, relative to the root of the project, and the anchor of a link;
    /// nothing for a link to another site.
    pub(crate) fn path_of(&self, target: &str) -> Option<(String, Option<String>)> {
        let here = Url::parse(HERE).unwrap();
        let url = here.join(&self.path).unwrap().join(target).unwrap();
        let path = url
            .as_str()
            .split('#')
            .next()?
            .strip_prefix(HERE)?
            .to_owned();
        // As it is written: Url would encode what is not ASCII.
        let anchor = target.split_once('#').map(|(_, anchor)| anchor.to_owned());
        Some((path, anchor))
    }

    /// Returns the targets of all links, sorted, in a form that is the same in all translations: with originals for
    /// translations, and places for the anchors of headings.
    pub(crate) fn links_in_any_language(
        &self,
        anchors: &BTreeMap<String, Vec<String>>,
    ) -> Vec<String> {
        let original = |path: &str| original_of(path).unwrap_or_else(|| path.to_owned());
        let links = self.links.iter().map(|(_, target)| {
            let Some((path, anchor)) = self.path_of(target) else {
                return target.clone();
            };
            let target = original(&path);
            if path != self.path && target == original(&self.path) {
                return "another language".to_owned();
            }
            match anchor {
                None => target,
                Some(anchor) => {
                    let of_page = anchors.get(&path);
                    let heading =
                        of_page.and_then(|known| known.iter().position(|known| *known == anchor));
                    format!("{target}, heading {heading:?}")
                }
            }
        });
        let mut links: Vec<_> = links.collect();
        links.sort();
        links
    }
}
