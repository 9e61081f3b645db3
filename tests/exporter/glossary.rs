//! The glossary: whether the texts for people use its words, and none of those that it lists as not used.
//!
//! Does not know which text is where on a page: a word has to occur in the files of a place at all.

use std::collections::BTreeMap;

use crate::harness::root;

/// The places of the glossary, and their files.
const PLACES: [(&str, &[&str]); 5] = [
    (
        "pages",
        &[
            "templates/*.html",
            "src/web/pages/**/*.rs",
            "src/wechat/chinese.rs",
        ],
    ),
    ("dashboards", &["dashboards/*.json"]),
    ("alerts", &["alerts/*.yml"]),
    ("messages", &["alerts/alertmanager/*.tmpl"]),
    ("metrics", &["docs/metrics.md"]),
];

/// Further texts in Chinese.
const OTHERS: [&str; 3] = [
    "alerts/alertmanager/*.yml",
    "README.zh-CN.md",
    "docs/zh-CN/**/*.md",
];

/// Names of others that have such a word in them.
const NAMES: [&str; 1] = ["企业微信应用"];

struct Term {
    english: String,
    chinese: String,
    not: Vec<String>,
    places: Vec<String>,
}

fn terms() -> Vec<Term> {
    let text = std::fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let terms = rows.skip(1).map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [english, chinese, not, places, meaning] = cells[..] else {
            panic!("{row}")
        };
        assert!(!meaning.is_empty(), "{row}");
        let list = |cell: &str, by: &str| {
            let words = cell.split(by).filter(|word| !word.is_empty());
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        Term {
            english: english.to_owned(),
            chinese: chinese.to_owned(),
            not: list(not, "、"),
            places: list(places, ", "),
        }
    });
    terms.collect()
}

/// Returns the texts of all files, by path, without upper case and line breaks.
fn texts(patterns: &[&str]) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for pattern in patterns {
        for file in glob::glob(root().join(pattern).to_str().unwrap()).unwrap() {
            let file = file.unwrap();
            let text = std::fs::read_to_string(&file).unwrap().to_lowercase();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            texts.push((file.display().to_string(), text));
        }
    }
    texts
}

/// Whether a text has a word, or its plural, that is not a part of another one.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let after = &text[at + word.len()..];
        let after = after.strip_prefix('s').unwrap_or(after);
        let around = [text[..at].chars().next_back(), after.chars().next()];
        around.iter().flatten().all(|c| !c.is_ascii_alphabetic())
    })
}

#[test]
fn a_word_may_be_plural_but_no_part_of_another_one() {
    for text in [
        "swing",
        "all swings.",
        "a_swing_ratio",
        "swinging swing",
        "波动swing",
    ] {
        assert!(has_word(text, "swing"), "{text}");
    }
    for text in ["swinging", "swingset", "upswing", "platformuserswing"] {
        assert!(!has_word(text, "swing"), "{text}");
    }
}

#[test]
fn the_words_of_the_glossary_are_those_of_the_texts() {
    let places: BTreeMap<_, _> = PLACES
        .iter()
        .map(|(place, patterns)| {
            let texts = texts(patterns);
            assert!(!texts.is_empty(), "{place}");
            (*place, texts)
        })
        .collect();
    let mut faults = Vec::new();
    for term in terms() {
        assert!(!term.places.is_empty(), "{} is used nowhere", term.english);
        for place in &term.places {
            let texts = places.get(place.as_str());
            let texts = texts.unwrap_or_else(|| panic!("{}: no place {place}", term.english));
            // The texts about metrics are in English.
            let languages = if place == "metrics" { 1 } else { 2 };
            for word in [&term.english, &term.chinese].into_iter().take(languages) {
                // Names of alerts are words in one.
                let is_in = |text: &str| match place.as_str() {
                    "alerts" => text.contains(word.as_str()),
                    _ => has_word(text, word),
                };
                if !texts.iter().any(|(_, text)| is_in(text)) {
                    faults.push(format!("{word} is not in the {place}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_text_uses_a_word_that_the_glossary_lists_as_not_used() {
    let terms = terms();
    let not: Vec<_> = terms.iter().flat_map(|term| &term.not).collect();
    assert!(!not.is_empty());
    let places = PLACES.iter().flat_map(|(_, patterns)| *patterns);
    let patterns = places.chain(&OTHERS);
    let mut faults = Vec::new();
    for (path, text) in texts(&patterns.copied().collect::<Vec<_>>()) {
        let text = NAMES.iter().fold(text, |text, name| text.replace(name, ""));
        for word in not.iter().filter(|word| text.contains(word.as_str())) {
            faults.push(format!("{path}: {word}"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
