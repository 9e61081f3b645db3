//! The documents: whether all instructions in them work, whether what they name exists, and whether
//! translations have the same form.
//!
//! A document is every `*.md` that git tracks. Nothing is skipped: a block that no test
//! can run fails.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use clap::CommandFactory as _;
use regex::Regex;
use serde_json::Value;
use wxapp_portrait_exporter::cli::Cli;

use crate::harness::{Prometheus, newer, on_one_day, root, scraping};
use crate::metrics::exporter_with_everything;
use crate::promql::{self, Vocabulary};
use crate::rules;

/// The host of a reader, on which the instructions of a document are followed.
mod host;
/// The contents of a document.
pub(crate) mod markdown;
/// How YAML is checked, by its content.
mod yaml;

use host::Host;
use markdown::{Block, Document, original_of};

/// The beginnings of blocks that no program runs or reads, and what they are.
const SAMPLES: [(&str, &str); 6] = [
    (
        "                 AppSecret ──►",
        "a drawing of the methods of access",
    ),
    (
        "Authorization: Bearer",
        "a file of headers, which the test writes itself",
    ),
    (
        "discovery.http",
        "a configuration of Grafana Alloy, which is not available here",
    ),
    (
        "[[instances]]",
        "a configuration of categraf, which is not available here",
    ),
    (
        "template {",
        "a configuration of Vault Agent, which is not available here",
    ),
    (
        "wxapp-portrait-app: panel",
        "what the preview says of a broken panel",
    ),
];

/// Flags of other programs that are mentioned without their program, and those programs.
const FLAGS_OF_OTHERS: [(&str, &str); 2] = [
    ("--max-block-duration", "promtool"),
    ("--storage.tsdb.retention.time", "Prometheus"),
];

/// Metrics that no longer exist, which upgrade notes mention, and those that replace them.
const FORMER_METRICS: [(&str, &str); 1] = [(
    "wxapp_portrait_archive_days",
    "wxapp_portrait_archived_portraits",
)];

/// Files of other projects, and those projects.
const FILES_OF_OTHERS: [(&str, &str); 7] = [
    ("2027.json", "holiday-cn"),
    ("alertmanager.yml", "a reader's Alertmanager"),
    ("apps.d/x.yml", "a reader's exporter"),
    ("conf/input.prometheus/prometheus.toml", "categraf"),
    ("project.config.json", "WeChat's developer tools"),
    ("web.yml", "a reader's exporter"),
    ("wxapp-portrait.yml", "a reader's exporter"),
];

/// Returns the paths of the files that git tracks.
pub(crate) fn tracked(pattern: &str) -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", pattern]).current_dir(root());
    let output = git.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let paths = String::from_utf8(output.stdout).unwrap();
    let paths = paths.split_terminator('\0').map(str::to_owned);
    // A file that is about to be deleted is tracked, too.
    paths.filter(|path| root().join(path).exists()).collect()
}

fn documents() -> Vec<Document> {
    let read = |path: String| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        Document::read(&path, &text)
    };
    let documents: Vec<_> = tracked("*.md").into_iter().map(read).collect();
    assert!(documents.len() > 5, "{}", documents.len());
    documents
}

/// Returns the documents that are not translations, which have the same blocks.
fn originals() -> Vec<Document> {
    let mut documents = documents();
    documents.retain(|document| original_of(&document.path).is_none());
    documents
}

fn blocks(documents: &[Document]) -> impl Iterator<Item = (&Document, &Block)> {
    documents
        .iter()
        .flat_map(|document| document.blocks.iter().map(move |block| (document, block)))
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// One after another, as all use the same ports.
#[tokio::test]
async fn the_instructions_of_the_documents_work() {
    on_one_day(async || {
        let documents = originals();
        let world = host::World::start().await;
        let mut faults = Vec::new();
        let mut samples = BTreeSet::new();
        for document in &documents {
            let host = Host::new(&world, &document.path, &tracked("*"));
            for block in &document.blocks {
                let text = world.filled_in(&block.text);
                let done = match block.language.as_str() {
                    "console" => host.run(&text).await.map(drop),
                    "ini" => host.edit_unit(&text).await,
                    "yaml" => yaml::check(&host, &text).await,
                    "json" => serde_json::from_str::<Value>(&text)
                        .map(drop)
                        .map_err(|error| error.to_string()),
                    "promql" => promql::read(&text).map(drop),
                    "" if is_series(&text) => Ok(()),
                    "" => SAMPLES
                        .iter()
                        .find(|(start, _)| block.text.starts_with(start))
                        .map(|(start, _)| {
                            samples.insert(*start);
                        })
                        .ok_or("unknown kind of block: see SAMPLES".to_owned()),
                    language => Err(format!("no test knows blocks of {language}")),
                };
                if let Err(problem) = done {
                    let Block { line, text, .. } = block;
                    faults.push(format!("{}:{line}:\n{text}{problem}", document.path));
                }
            }
            let complaints = host.complaints().into_iter();
            faults.extend(complaints.map(|line| format!("{}: {line}", document.path)));
        }
        faults.extend(world.unused());
        let unused = SAMPLES.iter().filter(|(start, _)| !samples.contains(start));
        faults.extend(unused.map(|(_, what)| format!("no document has {what}: see SAMPLES")));
        assert_none(&faults);
    })
    .await;
}

#[tokio::test]
async fn mistakes_in_a_document_are_reported() {
    let world = host::World::start().await;
    let host = Host::new(&world, "", &tracked("*"));
    for (text, problem) in [
        ("receivers: [{name: sms}]", None),
        (
            "receivers: [{name: sms, webhook: []}]",
            Some("field webhook not found"),
        ),
        ("services: {exporter: {image: x}}", None),
        ("services: {exporter: {imag: x}}", Some("imag")),
        ("{apiVersion: v1, kind: Service, metadata: {name: x}}", None),
        (
            "{apiVersion: v1, kind: Service}",
            Some("missing metadata.name"),
        ),
        (
            "scrape_configs: [{job_nam: x}]",
            Some("field job_nam not found"),
        ),
        ("swing: {min_users: few}", Some("swing.min_users")),
        ("# top_names: {town: 3}", Some("top_names")),
        (
            "providers: [{name: x, type: folder, options: {path: /x}}]\napiVersion: 1",
            Some("Grafana"),
        ),
        ("shards: 3", None),
        ("shards: three", Some("want integer")),
        ("rate_limit: {interval: 1s}", None),
        ("rate_limit: {interval: 1d}", Some("time.Duration")),
        ("a: 1", Some("unknown")),
    ] {
        // Commented lines are a fragment.
        let text = format!("{text}\n").replace("# top", "stale_after: 3d\n# top");
        match (yaml::check(&host, &text).await, problem) {
            (Ok(()), None) => {}
            (Err(said), Some(problem)) => assert!(said.contains(problem), "{text}{said}"),
            other => panic!("{text}{other:?}"),
        }
    }
    for (commands, problem) in [
        ("unknown-command", "command not found"),
        ("cat /home/user", "no test may touch /home"),
        ("curl --silent --show-error https://example.com/", "403"),
        ("false | true", "exit status: 1"),
        ("cargo run --release -- demonstrate", "demonstrate"),
        ("cargo bench --bench backtset -- 10", "no bench backtset"),
        ("cargo bench --bench load -- capacities", "no capacities"),
        (
            "sqlite3 data/portraits.db \"SELECT appid, answer -> '$.visit' FROM answers\"",
            "exit status: 0",
        ),
        ("curl http://localhost:9093/no-such-path", "exit status: 22"),
        ("docker compose up --detache", "unknown flag"),
        (
            "docker build --file Dockerfile --target binary --tag x deploy",
            "deploy has no ca-certificates.crt",
        ),
        ("kubectl rollout status --watched", "unknown flag"),
        ("systemctl start wxapp-portrait-exporter", "there is no "),
    ] {
        let said = host.run(&world.filled_in(commands)).await.unwrap_err();
        assert!(said.contains(problem), "{commands}: {said}");
    }
}

/// Whether a block without a language shows lines of a page.
fn is_series(text: &str) -> bool {
    text.starts_with("wxapp_portrait_")
}

#[tokio::test]
async fn every_query_of_the_documents_finds_something() {
    on_one_day(async || {
        let (_wechat, exporter) = exporter_with_everything().await;
        let config = scraping(&[&exporter]);
        let directory = || tempfile::tempdir().unwrap();
        let old = Prometheus::over(directory(), &config);
        let new = Prometheus::run(newer("prometheus").to_str().unwrap(), directory(), &config);
        let mut faults = Vec::new();
        let mut queries = 0;
        for prometheus in [old, new] {
            prometheus.query("min(wxapp_portrait_settled) == 1").await;
            for (document, block) in blocks(&originals()) {
                let query = match block.language.as_str() {
                    "promql" => block.text.clone(),
                    // The value of a sample is another one every day.
                    "" if is_series(&block.text) => {
                        let series = block
                            .text
                            .lines()
                            .map(|line| line.rsplit_once(' ').unwrap().0);
                        series.collect::<Vec<_>>().join(" and on () ")
                    }
                    _ => continue,
                };
                queries += 1;
                let answer = prometheus.ask("query", &[("query", &query)]).await;
                if answer["data"]["result"]
                    .as_array()
                    .is_none_or(Vec::is_empty)
                {
                    faults.push(format!(
                        "{}:{}: {query}: {answer}",
                        document.path, block.line
                    ));
                }
            }
        }
        assert!(queries > 0);
        assert_none(&faults);
    })
    .await;
}

#[test]
fn links_lead_to_existing_files_and_headings() {
    let documents = documents();
    let anchors = anchors(&documents);
    let mut faults = Vec::new();
    for document in &documents {
        for (line, target) in &document.links {
            let Some((path, anchor)) = document.path_of(target) else {
                continue;
            };
            let known = match anchor {
                _ if !root().join(&path).exists() => false,
                None => true,
                Some(anchor) => anchors
                    .get(&path)
                    .is_some_and(|anchors| anchors.contains(&anchor)),
            };
            if !known {
                faults.push(format!("{}:{line}: nothing is at {target}", document.path));
            }
        }
    }
    assert_none(&faults);
}

/// Returns all flags of a command and of those below it.
fn flags(command: &clap::Command) -> BTreeSet<String> {
    let long = |argument: &clap::Arg| argument.get_long().map(|name| format!("--{name}"));
    let own = command.get_arguments().filter_map(long);
    own.chain(command.get_subcommands().flat_map(flags))
        .collect()
}

#[tokio::test]
async fn names_in_the_code_of_documents_exist() {
    let (_wechat, exporter) = exporter_with_everything().await;
    let page = Vocabulary::of(&exporter.metrics().await);
    let mut command = Cli::command();
    command.build();
    let mut flags = flags(&command);
    flags.extend(FLAGS_OF_OTHERS.map(|(flag, _)| flag.to_owned()));
    let alerts: BTreeSet<_> = rules::alerts()
        .into_iter()
        .map(|alert| alert.name)
        .collect();
    let mut files = tracked("*");
    files.extend(FILES_OF_OTHERS.map(|(file, _)| file.to_owned()));
    let is_file = |name: &str| {
        let mut files = files.iter();
        files.any(|file| file == name || file.ends_with(&format!("/{name}")))
    };
    let of = |pattern: &str| Regex::new(pattern).unwrap();
    let flag = of(r"(?:^|\s)(--[a-z][a-z.-]*[a-z])");
    let metric = of(r"\b(wxapp_portrait_[a-z_]+[a-z])\b");
    let alert = of(r"\b(WxappPortrait[A-Za-z]+)");
    let file = of(r"^([\w.-][\w./-]*\.(?:yml|yaml|json|tmpl|toml|rs|md|mjs))$");
    let mut faults = Vec::new();
    let documents = documents();
    for (former, present) in FORMER_METRICS {
        assert!(page.has(present) && !page.has(former), "{former}");
    }
    let known = FLAGS_OF_OTHERS.iter().chain(&FILES_OF_OTHERS);
    for (name, whose) in known.chain(&FORMER_METRICS) {
        let mut code = documents.iter().flat_map(|document| &document.code);
        if !code.any(|(_, code)| code.contains(name)) {
            faults.push(format!("no document names {name} of {whose}"));
        }
    }
    for document in &documents {
        for (line, code) in &document.code {
            let mut look = |name: &Regex, is_there: &dyn Fn(&str) -> bool| {
                for found in name.captures_iter(code) {
                    if !is_there(&found[1]) {
                        faults.push(format!(
                            "{}:{line}: there is no {}",
                            document.path, &found[1]
                        ));
                    }
                }
            };
            // Any other first word of a line of code is another program, with its own flags.
            if code.starts_with("--") || code.starts_with("wxapp-portrait-exporter") {
                look(&flag, &|name| flags.contains(name));
            }
            look(&metric, &|name| {
                let is_former = FORMER_METRICS.iter().any(|(former, _)| *former == name);
                is_former || page.has(name) || page.has(&format!("{name}_bucket"))
            });
            look(&alert, &|name| alerts.contains(name));
            look(&file, &is_file);
        }
    }
    assert_none(&faults);
}

#[test]
fn the_faq_quotes_messages_that_the_program_has() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let messages = read("docs/access.md");
    // The Chinese headings begin with the reason, and have parentheses of their own.
    let quoted = Regex::new(r"(?m)^### (?:[^`]+：)?`(.+)` ?[(（](-?\d+)").unwrap();
    for path in ["docs/faq.md", "docs/zh-CN/faq.md"] {
        let faq = read(path);
        let mut found = 0;
        for heading in quoted.captures_iter(&faq) {
            let (message, errcode) = (&heading[1], &heading[2]);
            let row = format!(
                r"(?m)^\| [^|]*\b{errcode}\b[^|]* \| {}",
                regex::escape(message)
            );
            let row = Regex::new(&row).unwrap();
            assert!(row.is_match(&messages), "{path}: {errcode}: {message}");
            found += 1;
        }
        assert!(found > 5, "{path}: {found}");
    }
}

#[test]
fn translations_quote_the_messages_of_the_program_as_they_are() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let message_of_row = r"(?m)^\| [-0-9, ]+ \| ([^|]+) \|";
    for (name, pattern) in [("access", message_of_row), ("reliability", "“([^”]{20,})”")] {
        let translation = read(&format!("docs/zh-CN/{name}.md"));
        let original = read(&format!("docs/{name}.md"));
        let messages = Regex::new(pattern).unwrap();
        let mut count = 0;
        for message in messages.captures_iter(&original) {
            assert!(translation.contains(&message[1]), "{name}: {}", &message[1]);
            count += 1;
        }
        assert!(count > 20, "{name}: {count}");
    }
}

/// Returns the anchors of the headings of all documents, by path.
fn anchors(documents: &[Document]) -> BTreeMap<String, Vec<String>> {
    documents
        .iter()
        .map(|document| (document.path.clone(), document.anchors()))
        .collect()
}

/// Returns how the form of a translation differs from the original.
fn differences(
    original: &Document,
    translation: &Document,
    anchors: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let compare = |what: &str, one: Vec<String>, other: Vec<String>| {
        let at = (0..one.len().max(other.len())).find(|at| one.get(*at) != other.get(*at))?;
        let (one, other) = (one.get(at), other.get(at));
        Some(format!(
            "{what}: {one:?} in the original, {other:?} in the translation"
        ))
    };
    let levels = |document: &Document| {
        let levels = document.headings.iter();
        levels.map(|(level, _)| level.to_string()).collect()
    };
    let blocks = |document: &Document| {
        let blocks = document.blocks.iter();
        blocks.map(Block::without_comments).collect()
    };
    let rows = |document: &Document| document.tables.iter().map(usize::to_string).collect();
    let code = |document: &Document| {
        let code: BTreeSet<_> = document.code.iter().map(|(_, code)| code.clone()).collect();
        code.into_iter().collect()
    };
    let links = |document: &Document| document.links_in_any_language(anchors);
    let found = [
        compare("levels of headings", levels(original), levels(translation)),
        compare("blocks", blocks(original), blocks(translation)),
        compare("rows of tables", rows(original), rows(translation)),
        compare("code, sorted", code(original), code(translation)),
        compare("links, sorted", links(original), links(translation)),
    ];
    let found = found.into_iter().flatten();
    found
        .map(|found| format!("{}: {found}", translation.path))
        .collect()
}

#[test]
fn a_translation_has_the_form_of_the_original() {
    let documents = documents();
    let anchors = anchors(&documents);
    let mut faults = Vec::new();
    for translation in &documents {
        let Some(original) = original_of(&translation.path) else {
            continue;
        };
        match documents.iter().find(|document| document.path == original) {
            Some(original) => faults.extend(differences(original, translation, &anchors)),
            None => faults.push(format!("{} has no original", translation.path)),
        }
        for (line, target) in &translation.links {
            let Some((path, _)) = translation.path_of(target) else {
                continue;
            };
            let is_translated = anchors
                .keys()
                .any(|known| original_of(known).as_ref() == Some(&path));
            if is_translated && path != original {
                faults.push(format!(
                    "{}:{line}: {target} has a translation",
                    translation.path
                ));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn a_translation_that_differs_is_reported_with_the_difference() {
    let read = |path: &str, text: &str| Document::read(path, text);
    let english = "# One\n[中文](x.zh-CN.md) [two](#two) [a](a.md#b)\n## Two\n```yaml\na: 1  # one\n# two\n```\n\
        |`c`|\n|-|\n|1|\n";
    let chinese = "# 一\n[English](x.md) [一](a.zh-CN.md#乙) [二](#二)\n## 二\n```yaml\na: 1  # 一\n# 二\n```\n\
        |`c`|\n|-|\n|1|\n";
    let differing = |from: &str, to: &str| {
        assert!(chinese.contains(from));
        let changed = chinese.replace(from, to);
        let documents = [
            read("x.md", english),
            read("x.zh-CN.md", &changed),
            read("a.md", "# B"),
            read("a.zh-CN.md", "# 乙\n# 丙"),
        ];
        differences(&documents[0], &documents[1], &anchors(&documents))
    };
    assert_none(&differing("一", "壹"));
    for (from, to, what) in [
        ("## 二", "### 二", "levels of headings: Some(\"2\")"),
        (
            "## 二",
            "",
            "levels of headings: Some(\"2\") in the original, None",
        ),
        ("a: 1", "a: 2", "blocks: "),
        ("|1|\n", "|1|\n|2|\n", "rows of tables: "),
        ("`c`", "`d`", "code, sorted: "),
        (
            "a.zh",
            "b.zh",
            "links, sorted: Some(\"a.md, heading Some(0)\")",
        ),
        (
            "#乙",
            "#丙",
            "links, sorted: Some(\"a.md, heading Some(0)\")",
        ),
        ("(#二)", "(#一)", "links, sorted: "),
    ] {
        let found = differing(from, to);
        assert!(
            found[0].starts_with(&format!("x.zh-CN.md: {what}")),
            "{found:?}"
        );
    }
}
