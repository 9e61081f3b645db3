//! Whether the dashboards and rules find in VictoriaMetrics what they find in Prometheus.

use std::collections::BTreeSet;

use super::World;
use super::grafana::{self, Dashboard, Viewer, text, values};
use super::walk::alike;
use crate::harness::{Prometheus, now};
use crate::rules;

impl World {
    /// Returns the queries of dashboards and rules that a database with the samples of the first Prometheus answers
    /// differently.
    pub(super) async fn differences(
        &self,
        dashboards: &[Dashboard],
        database: &Prometheus,
    ) -> BTreeSet<String> {
        // All samples are older, and none is about to be too old.
        let now = now();
        let viewers = [&self.one, database].map(|server| Viewer::new(server, now));
        let mut found = BTreeSet::new();
        for dashboard in dashboards {
            let choices = self.every_choice(&viewers[0], dashboard).await.unwrap();
            for choices in &choices {
                for panel in dashboard.panels() {
                    for target in values(&panel["targets"]) {
                        let [one, other] = &viewers;
                        let one = one.ask(dashboard, panel, target, choices).await;
                        let other = other.ask(dashboard, panel, target, choices).await;
                        let asked = text(&target["expr"]);
                        let same = match (&one, &other) {
                            (Ok(one), Ok(other)) => alike(one, other, asked),
                            _ => false,
                        };
                        let title = text(&panel["title"]);
                        if !same && found.insert(format!("{}: {title}: {asked}", dashboard.name)) {
                            println!("DIFF {} / {title} / {choices:?}\n{asked}\n  ONE {}\n  OTHER {}", dashboard.name, cut(&format!("{one:?}")), cut(&format!("{other:?}")));
                        }
                    }
                }
            }
        }
        for (_, rule) in rules::all_rules() {
            let query = text(&rule["expr"]);
            let time = now.timestamp().to_string();
            let parameters = [("query", query), ("time", &time)];
            let one = grafana::read(&self.one.ask("query", &parameters).await);
            let other = grafana::read(&database.ask("query", &parameters).await);
            let same = match (&one, &other) {
                (Ok(one), Ok(other)) => alike(one, other, query),
                _ => false,
            };
            if !same {
                println!("RULE {query}\n  ONE {}\n  OTHER {}", cut(&format!("{one:?}")), cut(&format!("{other:?}")));
                found.insert(query.to_owned());
            }
        }
        found
    }
}

fn cut(text: &str) -> String {
    text.chars().take(700).collect()
}
