//! The files of Docker Compose: their schema, every configuration in them, and the programs that they start.
//!
//! Needs no Docker engine: the system's own programs replace the images, with the commands and
//! files that they would have in their containers. Grafana has no such program.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use wxapp_portrait_exporter::calendar;

use crate::alertmanager::{Version, check, run};
use crate::dashboards::days_of_charts;
use crate::harness::{
    Exporter, Prometheus, Running, client, eventually, newer, on_one_day, program, root, yesterday,
};

/// The files of a project, of which later ones add to the first.
type Files = &'static [&'static str];

const DEMO: Files = &["compose.yaml"];
const REAL: Files = &["deploy/compose/compose.yaml"];
const SHARED: Files = &[
    "deploy/compose/compose.yaml",
    "deploy/compose/compose.postgres.yaml",
];

fn compose(files: &[PathBuf]) -> Output {
    compose_with(files, [])
}

fn compose_with<'a>(
    files: &[PathBuf],
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Output {
    let mut compose = Command::new(newer("docker-compose"));
    compose.envs(variables);
    for file in files {
        compose.arg("--file").arg(file);
    }
    compose.args(["config", "--format", "json"]);
    compose.output().unwrap()
}

/// Returns files as Docker Compose reads them.
fn read(files: Files) -> Value {
    let files: Vec<_> = files.iter().map(|file| root().join(file)).collect();
    let output = compose(&files);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The files of a service in its container: a directory represents its root.
struct Container {
    root: TempDir,
    service: Value,
}

impl Container {
    /// `secrets` are created here, and so are the files that the text says to copy.
    fn of(files: Files, name: &str) -> Self {
        let project = read(files);
        let service = project["services"][name].clone();
        let root = tempfile::tempdir().unwrap();
        for volume in service["volumes"].as_array().unwrap_or(&Vec::new()) {
            let target = Self::below(root.path(), volume["target"].as_str().unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            if volume["type"] == "volume" {
                fs::create_dir_all(target).unwrap();
                continue;
            }
            assert_eq!(volume["read_only"], true, "{volume}");
            let source = Path::new(volume["source"].as_str().unwrap());
            let is_copied = source.ends_with("deploy/compose/alertmanager.yml");
            let source = if is_copied {
                crate::harness::root().join("alerts/alertmanager/wecom.yml")
            } else {
                source.to_owned()
            };
            assert!(source.exists(), "{}", source.display());
            symlink(source, target).unwrap();
        }
        for secret in service["secrets"].as_array().unwrap_or(&Vec::new()) {
            let file = project["secrets"][secret["source"].as_str().unwrap()]["file"].as_str();
            let name = Path::new(file.unwrap()).file_name().unwrap();
            let target = Self::below(root.path(), secret["target"].as_str().unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, name.as_encoded_bytes()).unwrap();
        }
        Self { root, service }
    }

    fn below(root: &Path, path: &str) -> PathBuf {
        root.join(path.strip_prefix('/').unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        Self::below(self.root.path(), path)
    }

    /// Makes a volume that of another container.
    fn share(&self, path: &str, other: &Self) {
        fs::remove_dir(self.path(path)).unwrap();
        symlink(other.path(path), self.path(path)).unwrap();
    }

    /// Changes a configuration, which is read from the project.
    fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let path = self.path(path);
        let mut config: Value =
            serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut config);
        fs::remove_file(&path).unwrap();
        // JSON is YAML.
        fs::write(&path, config.to_string()).unwrap();
    }

    /// Returns the program with the arguments of the service, with paths inside the directory.
    fn command(&self, mut program: Command) -> Command {
        let root = self.root.path().display();
        for argument in self.service["command"].as_array().unwrap() {
            let argument = argument.as_str().unwrap();
            let argument = argument.replace("=/", &format!("={root}/"));
            program.arg(argument.replace(" /", &format!(" {root}/")));
        }
        program
    }

    fn env(&self, name: &str) -> &str {
        self.service["environment"][name].as_str().unwrap()
    }
}

#[test]
fn docker_compose_accepts_all_files_and_no_others() {
    for (files, more) in [
        (DEMO, &["blocks", "history"][..]),
        (REAL, &[]),
        (SHARED, &["exporter-2", "postgres"]),
    ] {
        let mut expected = ["alertmanager", "exporter", "grafana", "prometheus"].to_vec();
        expected.extend(more);
        expected.sort_unstable();
        let services = read(files)["services"].as_object().unwrap().clone();
        let names: Vec<_> = services.keys().map(String::as_str).collect();
        assert_eq!(names, expected);
    }
    let text = fs::read_to_string(root().join(DEMO[0])).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (good, bad) in [
        ("cap_drop: [ALL]", "cap_dropped: [ALL]"),
        ("read_only: true", "read_only: maybe"),
        ("tmpfs: [/tmp]", "tmpfs: {path: /tmp}"),
        ("  grafana:\n\n", "\n\n"),
    ] {
        let file = directory.path().join("compose.yaml");
        let broken = format!("{text}\n").replacen(good, bad, 1);
        assert_ne!(broken, format!("{text}\n"), "{good}");
        fs::write(&file, broken).unwrap();
        assert!(!compose(&[file]).status.success(), "{bad}");
    }
}

#[test]
fn the_image_has_the_versions_of_the_program() {
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let rust = env!("CARGO_PKG_RUST_VERSION");
    for line in [
        format!("ARG RUST_IMAGE=docker.io/library/rust:{rust}-trixie"),
        format!("org.opencontainers.image.version=\"{version}\""),
    ] {
        assert!(dockerfile.contains(&line), "{line}");
    }
    let image = format!("wxapp-portrait-exporter:{version}");
    for files in [DEMO, REAL, SHARED] {
        assert_eq!(read(files)["services"]["exporter"]["image"], image);
    }
}

#[test]
fn the_image_is_built_from_everything_that_cargo_needs() {
    let directory = tempfile::tempdir().unwrap();
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let (_, build) = dockerfile.split_once(" AS build\n").unwrap();
    let (build, _) = build.split_once("\nFROM ").unwrap();
    let lines = build.lines().filter_map(|line| line.strip_prefix("COPY "));
    let mut copied: Vec<_> = lines
        .flat_map(|line| line.rsplit_once(' ').unwrap().0.split(' '))
        .collect();
    let entries = ignored.lines().filter_map(|line| line.strip_prefix('!'));
    let mut entries: Vec<_> = entries.collect();
    copied.sort_unstable();
    entries.sort_unstable();
    assert_eq!(copied, entries);
    for entry in entries {
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(root().join(entry)).arg(directory.path());
        assert!(copy.status().unwrap().success(), "{entry}");
    }
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args([
        "metadata",
        "--offline",
        "--locked",
        "--no-deps",
        "--format-version=1",
    ]);
    let output = metadata.current_dir(directory.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_dockerfile_is_linted_without_findings() {
    let hadolint = root().join("target/tools/python/bin/hadolint");
    let mut hadolint = Command::new(hadolint);
    let output = hadolint.arg(root().join("Dockerfile")).output();
    let output = output.unwrap_or_else(|error| panic!("hadolint: {error}: run tests/run"));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn every_mirror_is_described_and_can_be_set_for_compose() {
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let arguments = dockerfile.lines().filter_map(|line| {
        let (name, default) = line.strip_prefix("ARG ")?.split_once('=')?;
        (name != "REVISION").then_some((name, default))
    });
    let arguments: Vec<_> = arguments.collect();
    assert_eq!(arguments.len(), 5, "{arguments:?}");
    let readme = fs::read_to_string(root().join("deploy/compose/README.md")).unwrap();
    for (name, default) in arguments.iter().chain(&[("DOCKER_IO", "docker.io")]) {
        let default = match *default {
            "" => String::new(),
            default => format!("`{default}` "),
        };
        let row = format!("\n| `{name}` | {default}| ");
        assert!(readme.contains(&row), "{row}");
    }

    for files in [DEMO, SHARED] {
        let defaults = read(files);
        let variables = arguments.iter().map(|(name, _)| (*name, "x"));
        let variables = variables.chain([("DOCKER_IO", "mirror.internal/docker.io")]);
        let files: Vec<_> = files.iter().map(|file| root().join(file)).collect();
        let output = compose_with(&files, variables);
        let project: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (name, service) in project["services"].as_object().unwrap() {
            let default = &defaults["services"][name];
            for (argument, _) in &arguments {
                if !service["build"].is_null() {
                    assert_eq!(service["build"]["args"][argument], "x", "{name}");
                    assert_eq!(default["build"]["args"][argument], Value::Null, "{name}");
                }
            }
            let image = default["image"].as_str().unwrap();
            let mirrored = image.replace("docker.io/", "mirror.internal/docker.io/");
            assert_eq!(service["image"], mirrored);
        }
    }
}

#[test]
fn every_configuration_is_valid() {
    for files in [DEMO, REAL, SHARED] {
        let prometheus = Container::of(files, "prometheus");
        let config = prometheus.path("/etc/prometheus/prometheus.yml");
        for promtool in ["promtool".into(), newer("promtool")] {
            let mut promtool = Command::new(promtool);
            let said = run(promtool.args(["check", "config"]).arg(&config)).unwrap();
            assert!(said.contains("SUCCESS: 1 rule files found"), "{said}");
        }
        let alertmanager = Container::of(files, "alertmanager");
        let config = alertmanager.path("/etc/alertmanager/alertmanager.yml");
        let said = check(Version::New, &config).unwrap();
        assert!(said.contains("2 receivers"), "{said}");
    }
    for (files, name) in [
        (REAL, "exporter"),
        (SHARED, "exporter"),
        (SHARED, "exporter-2"),
    ] {
        let exporter = Container::of(files, name);
        let config = exporter.path("/etc/wxapp-portrait/wxapp-portrait.yml");
        let mut config = fs::read_to_string(config).unwrap();
        if files == SHARED {
            let url = exporter.path("/run/secrets/postgres-url");
            fs::write(url, "postgres://portraits:a-password@postgres/portraits").unwrap();
            // As the text says.
            assert!(config.contains("# archive: "));
            config = config.replace("# archive: ", "archive: ");
        }
        let here = exporter.root.path().join("wxapp-portrait.yml");
        let secrets = exporter.path("/run/secrets/");
        let config = config.replace("/run/secrets/", secrets.to_str().unwrap());
        fs::write(&here, config).unwrap();
        let arguments = ["--config.check", "--config.file", here.to_str().unwrap()];
        let mut command = exporter.command(program());
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// They differ in nothing but the port on the host.
#[test]
fn both_exporters_of_an_archive_are_scraped_and_reach_the_database() {
    let services = read(SHARED)["services"].clone();
    let (mut one, mut other) = (services["exporter"].clone(), services["exporter-2"].clone());
    assert_ne!(one["ports"].take(), other["ports"].take());
    assert_eq!(one, other);

    let prometheus = |files| {
        let container = Container::of(files, "prometheus");
        let text = fs::read_to_string(container.path("/etc/prometheus/prometheus.yml")).unwrap();
        serde_saphyr::from_str::<Value>(&text).unwrap()
    };
    let (mut alone, mut both) = (prometheus(REAL), prometheus(SHARED));
    let targets =
        |config: &mut Value| config["scrape_configs"][0]["static_configs"][0]["targets"].take();
    assert_eq!(targets(&mut alone), json!(["exporter:10690"]));
    assert_eq!(
        targets(&mut both),
        json!(["exporter:10690", "exporter-2:10690"])
    );
    assert_eq!(alone, both);

    let readme = fs::read_to_string(root().join("deploy/compose/README.md")).unwrap();
    let user = services["postgres"]["environment"]["POSTGRES_USER"].as_str();
    let user = user.unwrap();
    let url = format!("postgres://{user}:%s@postgres/{user}");
    assert!(readme.contains(&url), "{url}");
    assert!(readme.contains("COMPOSE_FILE=compose.yaml:compose.postgres.yaml"));
}

#[test]
fn grafana_finds_its_data_source_and_every_dashboard() {
    let grafana = Container::of(DEMO, "grafana");
    let provisioned = |kind: &str| -> Value {
        let file = format!("/etc/grafana/provisioning/{kind}/wxapp-portrait.yml");
        let text = fs::read_to_string(grafana.path(&file)).unwrap();
        serde_saphyr::from_str(&text).unwrap()
    };
    let sources = provisioned("datasources");
    assert_eq!(sources["datasources"][0]["type"], "prometheus");
    let address = read(DEMO)["services"]["prometheus"]["ports"][0]["target"].clone();
    let url = format!("http://prometheus:{address}");
    assert_eq!(sources["datasources"][0]["url"], url);

    let directory = provisioned("dashboards")["providers"][0]["options"]["path"].clone();
    let names = |directory: &Path| {
        let files = glob::glob(directory.join("*.json").to_str().unwrap()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let shown = names(&grafana.path(directory.as_str().unwrap()));
    assert_eq!(shown, names(&root().join("dashboards")));
    let home = grafana.env("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH");
    assert!(grafana.path(home).exists(), "{home}");
    assert_eq!(grafana.env("GF_PLUGINS_PREINSTALL_DISABLED"), "true");
}

/// Starts the exporter of the demo.
async fn start_exporter(container: &Container) -> Exporter {
    let mut command = container.command(program());
    command.arg("--web.listen-address=127.0.0.1:0");
    Exporter::start(command, Vec::new(), None).await
}

/// Makes the Prometheus of the demo scrape it every second.
fn scrape(prometheus: &Container, exporter: &Exporter, alertmanager: Option<&str>) {
    prometheus.edit("/etc/prometheus/prometheus.yml", |config| {
        let targets = |config: &mut Value, name: &str, address: &str| {
            let targets = &mut config["static_configs"][0]["targets"];
            assert_eq!(*targets, json!([name]));
            *targets = json!([address]);
        };
        let address = exporter.url.strip_prefix("http://").unwrap();
        targets(&mut config["scrape_configs"][0], "exporter:10690", address);
        let alertmanagers = &mut config["alerting"]["alertmanagers"][0];
        let address = alertmanager.unwrap_or("127.0.0.1:1");
        targets(alertmanagers, "alertmanager:9093", address);
        for interval in ["scrape_interval", "evaluation_interval"] {
            config["global"][interval] = json!("1s");
        }
    });
}

#[tokio::test]
async fn the_demo_brings_an_alert_from_wechat_to_alertmanager() {
    let exporter = start_exporter(&Container::of(DEMO, "exporter")).await;

    let alertmanager = Container::of(DEMO, "alertmanager");
    let mut command = alertmanager.command(Command::new("prometheus-alertmanager"));
    command.args([
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
    ]);
    let mut running = Running::start(command);
    let alertmanager_address = running.said("\"Listening on\" address=").await;

    let prometheus = Container::of(DEMO, "prometheus");
    scrape(&prometheus, &exporter, Some(&alertmanager_address));
    let mut command = prometheus.command(Command::new("prometheus"));
    command.arg("--web.listen-address=127.0.0.1:0");
    let _prometheus = Running::start(command);

    let url = format!("http://{alertmanager_address}/api/v2/alerts");
    eventually("an alert", async || {
        let alerts = client().get(&url).send().await.ok()?.bytes().await.ok()?;
        let alerts: Vec<Value> = serde_json::from_slice(&alerts).ok()?;
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap().to_owned();
        let swing = "WxappPortraitPlatformUsersSwing";
        alerts
            .iter()
            .any(|alert| name(alert) == swing)
            .then_some(())
    })
    .await;
}

/// Runs a command that must succeed, with the promtool of the version that the image has.
fn runs(mut command: Command) {
    let path = format!("{}:/usr/bin:/bin", newer("").display());
    let output = command.env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

#[tokio::test]
async fn the_charts_of_the_demo_have_the_days_before_its_first_start() {
    let services = read(DEMO)["services"].clone();
    for (service, other, condition) in [
        ("history", "exporter", "service_healthy"),
        ("blocks", "history", "service_completed_successfully"),
        ("prometheus", "blocks", "service_completed_successfully"),
    ] {
        let needed = &services[service]["depends_on"][other]["condition"];
        assert_eq!(*needed, condition, "{service}");
    }
    // Of another archive.
    assert_eq!(
        read(REAL)["services"]["prometheus"]["depends_on"],
        Value::Null
    );

    on_one_day(async || {
        let [exporter, history, blocks, prometheus] =
            ["exporter", "history", "blocks", "prometheus"].map(|name| Container::of(DEMO, name));
        history.share("/data", &exporter);
        blocks.share("/data", &exporter);
        blocks.share("/prometheus", &prometheus);
        let demo = start_exporter(&exporter).await;
        runs(history.command(program()));
        let entrypoint = blocks.service["entrypoint"].as_array().unwrap();
        let shell = || {
            let mut shell = Command::new(entrypoint[0].as_str().unwrap());
            shell.arg(entrypoint[1].as_str().unwrap());
            blocks.command(shell)
        };
        runs(shell());
        let samples = || {
            glob::glob(prometheus.path("/prometheus/*/chunks").to_str().unwrap())
                .unwrap()
                .count()
        };
        let before = samples();
        assert!(before > 0);

        scrape(&prometheus, &demo, None);
        let command = prometheus.command(Command::new(newer("prometheus")));
        let running = Prometheus::of(command, tempfile::tempdir().unwrap());
        running.query("up == 1").await;
        let charts = days_of_charts(&running, "wxapp-portrait-overview").await;
        assert!(charts.len() > 2, "{charts:?}");
        let day_before = calendar::days_before(yesterday(), 1);
        for (title, days) in charts {
            for ago in 0..25 {
                let day = calendar::days_before(day_before, ago);
                assert!(days.contains(&day), "{title} lacks {day}: {days:?}");
            }
        }
        // When it is started again, Prometheus has its own samples of these days.
        runs(shell());
        assert_eq!(samples(), before);
    })
    .await;
}

#[tokio::test]
async fn the_history_of_the_demo_has_the_configuration_of_the_demo() {
    let apps = |config: &str| {
        let config: Value = serde_saphyr::from_str(config).unwrap();
        let apps = config["apps"].as_array().unwrap().iter();
        let facts = ["appid", "name", "labels", "windows", "holidays", "swing"];
        let apps = apps.map(|app| facts.map(|fact| app[fact].clone()));
        apps.collect::<Vec<_>>()
    };
    let demo = start_exporter(&Container::of(DEMO, "exporter")).await;
    let (_, demo) = demo.get("/config").await;
    let history = Container::of(DEMO, "history");
    let mut command = program();
    command
        .arg("--config.file")
        .arg(history.path("/etc/wxapp-portrait/demo.yml"));
    command.arg("--storage.path").arg(history.path("/data"));
    command.arg("--web.listen-address=127.0.0.1:0");
    let exporter = Exporter::start(command, Vec::new(), None).await;
    assert_eq!(apps(&exporter.get("/config").await.1), apps(&demo));
}
