//! Whether the queries of dashboards and rules find in VictoriaMetrics what they find in Prometheus.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::World;
use super::grafana::{self, Dashboard, Viewer, text, values};
use super::walk::alike;
use crate::harness::{Prometheus, now};
use crate::rules;

impl World {
    /// Returns the queries that a database with the samples of the first Prometheus answers differently, and what each
    /// of the two answers.
    pub(super) async fn differences(
        &self,
        dashboards: &[Dashboard],
        database: &Prometheus,
    ) -> Vec<(String, String)> {
        // VictoriaMetrics moves a time that is still in the future by its own clock.
        let now = now() - TimeDelta::seconds(5);
        let [one, other] = [&self.one, database].map(|server| Viewer::new(server, now));
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        let mut compare = |query: &str, answers: [Result<_, String>; 2]| {
            let same = matches!(&answers, [Ok(one), Ok(other)] if alike(one, other, query));
            if !same && seen.insert(query.to_owned()) {
                found.push((query.to_owned(), format!("{answers:?}")));
            }
        };
        for dashboard in dashboards {
            for choices in self.every_choice(&one, dashboard).await.unwrap() {
                for panel in dashboard.panels() {
                    for target in values(&panel["targets"]) {
                        let answers = [
                            one.ask(dashboard, panel, target, &choices).await,
                            other.ask(dashboard, panel, target, &choices).await,
                        ];
                        compare(text(&target["expr"]), answers);
                    }
                }
            }
        }
        for (_, rule) in rules::all_rules() {
            let query = text(&rule["expr"]);
            let time = now.timestamp().to_string();
            let parameters = [("query", query), ("time", &time)];
            let answers = [
                grafana::read(&self.one.ask("query", &parameters).await),
                grafana::read(&database.ask("query", &parameters).await),
            ];
            compare(query, answers);
        }
        found
    }
}
