//! The glossary: whether the texts for people use its words, and none of those that it lists as not used.
//!
//! Does not know which text is where on a page: a word has to occur in the files of a place at all.

use std::collections::BTreeMap;

use crate::harness::root;

/// Switch on once the dashboards have the words of the glossary.
const CHECKS_DASHBOARDS: bool = false;

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
    "docs/*.zh-CN.md",
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
            if place == "dashboards" && !CHECKS_DASHBOARDS {
                continue;
            }
            // The texts about metrics are in English.
            let languages = if place == "metrics" { 1 } else { 2 };
            for word in [&term.english, &term.chinese].into_iter().take(languages) {
                if !texts.iter().any(|(_, text)| text.contains(word.as_str())) {
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
    let places = PLACES.iter();
    let places = places.filter(|(place, _)| *place != "dashboards" || CHECKS_DASHBOARDS);
    let patterns = places.flat_map(|(_, patterns)| *patterns).chain(&OTHERS);
    let mut faults = Vec::new();
    for (path, text) in texts(&patterns.copied().collect::<Vec<_>>()) {
        let text = NAMES.iter().fold(text, |text, name| text.replace(name, ""));
        for word in not.iter().filter(|word| text.contains(word.as_str())) {
            faults.push(format!("{path}: {word}"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
