//! A configuration file as a tree, before anything is known about its keys.
//!
//! Every key and every value has its line, and a plain value is the text that is in the file: `1.10` stays
//! `1.10`. Anchors are resolved and merges (`<<`) are applied by the YAML reader.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, Spanned};

use super::read::Text;

/// A value, and the line that it begins in.
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) content: Content,
}

/// What a value consists of.
pub(super) enum Content {
    Null,
    Text {
        value: String,
        /// Whether it is in the file as it is here: neither quoted nor folded.
        is_plain: bool,
    },
    List(Vec<Node>),
    /// With duplicates, in the order of the file.
    Mapping(Vec<(Text, Node)>),
}

/// Parses a YAML document.
///
/// # Errors
///
/// It is not YAML.
pub(super) fn parse(text: &str) -> Result<Node, Error> {
    // Its bytes would be missing in the positions.
    let text = text.trim_start_matches('\u{feff}');
    // The default limits on the size of a document are below a list of thousands of apps.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: usize::MAX, max_nodes: usize::MAX },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
    };
    let parsed: Spanned<Parsed> = serde_saphyr::from_str_with_options(text, options)?;
    Ok(node(parsed, text))
}

/// A value as the YAML reader passes it on.
enum Parsed {
    Null,
    Text(String),
    /// What YAML takes for a number or a boolean.
    Other,
    List(Vec<Spanned<Parsed>>),
    Mapping(Vec<(Spanned<String>, Spanned<Parsed>)>),
}

fn node(parsed: Spanned<Parsed>, text: &str) -> Node {
    let content = match parsed.value {
        Parsed::Null => Content::Null,
        Parsed::Text(value) => Content::Text {
            is_plain: source(&parsed.defined, text) == value,
            value,
        },
        Parsed::Other => Content::Text {
            value: source(&parsed.defined, text).to_owned(),
            is_plain: true,
        },
        Parsed::List(values) => {
            Content::List(values.into_iter().map(|value| node(value, text)).collect())
        }
        Parsed::Mapping(entries) => {
            let entries = entries.into_iter().map(|(key, value)| {
                let key = Text {
                    line: key.referenced.line(),
                    value: key.value,
                };
                (key, node(value, text))
            });
            Content::Mapping(entries.collect())
        }
    };
    Node {
        line: parsed.referenced.line(),
        content,
    }
}

/// Returns what the file has for a value.
fn source<'a>(place: &Location, text: &'a str) -> &'a str {
    let bytes = place.span().byte_offset().zip(place.span().byte_len());
    let source = bytes.and_then(|(offset, length)| {
        text.get(usize::try_from(offset).ok()?..)?
            .get(..usize::try_from(length).ok()?)
    });
    source.unwrap_or_default().trim()
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Parsed;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Parsed, E> {
                Ok(Parsed::Null)
            }

            fn visit_str<E>(self, text: &str) -> Result<Parsed, E> {
                Ok(Parsed::Text(text.to_owned()))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Parsed, E> {
                Ok(Parsed::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Parsed, E> {
                Ok(Parsed::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Parsed, E> {
                Ok(Parsed::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Parsed, E> {
                Ok(Parsed::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Parsed, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Parsed::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Parsed::Mapping(entries))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Writes a tree with the line of every key and value, and q before what is quoted.
    fn written(node: &Node) -> String {
        let mut text = format!("{}:", node.line);
        match &node.content {
            Content::Null => text += "null",
            Content::Text { value, is_plain } => {
                let quote = if *is_plain { "" } else { "q" };
                let _ = write!(text, "{quote}{value:?}");
            }
            Content::List(values) => {
                let values: Vec<String> = values.iter().map(written).collect();
                let _ = write!(text, "[{}]", values.join(" "));
            }
            Content::Mapping(entries) => {
                let keys: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| format!("{}:{}={}", key.line, key.value, written(value)))
                    .collect();
                let _ = write!(text, "{{{}}}", keys.join(" "));
            }
        }
        text
    }

    #[test]
    fn plain_values_are_the_text_of_the_file() {
        let text = "\u{feff}- 1.10\n- 007 # seven\n- yes\n- 0x1F\n- 1e3\n- '1'\n- -5\n- .inf\n- 商城: 1_0\n- ~\n- ''\n-\n";
        assert_eq!(
            written(&parse(text).unwrap()),
            r#"1:[1:"1.10" 2:"007" 3:"yes" 4:"0x1F" 5:"1e3" 6:q"1" 7:"-5" 8:".inf" 9:{9:商城=9:"1_0"} 10:null 11:q"" 12:null]"#
        );
        assert_eq!(
            written(&parse("a: [1, 2,3 ]").unwrap()),
            r#"1:{1:a=1:[1:"1" 1:"2" 1:"3"]}"#
        );
    }

    #[test]
    fn aliases_are_resolved_merges_applied_and_duplicates_kept() {
        let text = "- &a\n  x: 1\n  y: 2\n- *a\n- <<: *a\n  x: 3\n- x: 1\n  x: 2\n";
        assert_eq!(
            written(&parse(text).unwrap()),
            r#"1:[2:{2:x=2:"1" 3:y=3:"2"} 4:{4:x=4:"1" 4:y=4:"2"} 5:{6:x=6:"3" 5:y=5:"2"} 7:{7:x=7:"1" 8:x=8:"2"}]"#
        );
    }
}
