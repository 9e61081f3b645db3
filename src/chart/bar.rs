//! A horizontal bar for a share.
//!
//! It is decorative: the figures are beside it.

use std::fmt::{self, Display, Formatter};

use askama::filters::HtmlSafe;

use super::svg::{Percent, drawable};

/// A horizontal bar as wide as its container: its `Display` is HTML.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// From 0 to 1. A larger one is drawn as 1; a negative one, and one that is not finite, as 0.
    pub share: f64,
    /// Another share, such as that of a week ago, marked by a line.
    pub compared: Option<f64>,
}

impl HtmlSafe for Bar {}

impl Display for Bar {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let percent = |share| Percent(drawable(share).map_or(0.0, |share| share.min(1.0)));
        let width = percent(self.share);
        write!(
            f,
            r#"<svg class="chart-bar" height="10" aria-hidden="true"><rect class="chart-fill" width="{width}" height="100%"/>"#
        )?;
        if let Some(compared) = self.compared {
            let x = percent(compared);
            write!(
                f,
                r#"<line class="chart-compared" x1="{x}" x2="{x}" y2="100%"/>"#
            )?;
        }
        f.write_str("</svg>")
    }
}

#[cfg(test)]
mod tests {
    use super::super::svg::tests::{attributes, drawn};
    use super::*;

    #[test]
    fn a_share_is_drawn_from_0_to_100_percent() {
        for (share, width) in [
            (0.372, "37.2%"),
            (-1.0, "0%"),
            (7.0, "100%"),
            (f64::INFINITY, "0%"),
            (f64::NAN, "0%"),
        ] {
            let text = drawn(&Bar {
                share,
                compared: Some(share),
            });
            assert_eq!(attributes(&text, "chart-fill", "width"), [width]);
            assert_eq!(attributes(&text, "chart-compared", "x1"), [width]);
        }
        let text = drawn(&Bar {
            share: 0.5,
            compared: None,
        });
        assert!(attributes(&text, "chart-compared", "x1").is_empty());
    }
}
