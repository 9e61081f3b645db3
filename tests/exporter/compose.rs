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

use crate::alertmanager::{Version, check, run};
use crate::harness::{Exporter, Running, client, eventually, newer, program, root};

/// The files of a project, of which later ones add to the first.
type Files = &'static [&'static str];

const DEMO: Files = &["compose.yaml"];
const REAL: Files = &["deploy/compose/compose.yaml"];
const SHARED: Files = &[
    "deploy/compose/compose.yaml",
    "deploy/compose/compose.postgres.yaml",
];

fn compose(files: &[PathBuf]) -> Output {
    let mut compose = Command::new(newer("docker-compose"));
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
        let here = format!("={}/", self.root.path().display());
        for argument in self.service["command"].as_array().unwrap() {
            program.arg(argument.as_str().unwrap().replace("=/", &here));
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
        (DEMO, &[][..]),
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
    for entry in ignored.lines().filter_map(|line| line.strip_prefix('!')) {
        assert!(dockerfile.contains(&format!(" {entry} ")), "{entry}");
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

#[tokio::test]
async fn the_demo_brings_an_alert_from_wechat_to_alertmanager() {
    let exporter = Container::of(DEMO, "exporter");
    let mut command = exporter.command(program());
    command.arg("--web.listen-address=127.0.0.1:0");
    let exporter = Exporter::start(command, Vec::new(), None).await;

    let alertmanager = Container::of(DEMO, "alertmanager");
    let mut command = alertmanager.command(Command::new("prometheus-alertmanager"));
    command.args([
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
    ]);
    let mut running = Running::start(command);
    let alertmanager_address = running.said("\"Listening on\" address=").await;

    let prometheus = Container::of(DEMO, "prometheus");
    prometheus.edit("/etc/prometheus/prometheus.yml", |config| {
        let targets = |config: &mut Value, name: &str, address: &str| {
            let targets = &mut config["static_configs"][0]["targets"];
            assert_eq!(*targets, json!([name]));
            *targets = json!([address]);
        };
        let address = exporter.url.strip_prefix("http://").unwrap();
        targets(&mut config["scrape_configs"][0], "exporter:10690", address);
        let alertmanagers = &mut config["alerting"]["alertmanagers"][0];
        targets(alertmanagers, "alertmanager:9093", &alertmanager_address);
        for interval in ["scrape_interval", "evaluation_interval"] {
            config["global"][interval] = json!("1s");
        }
    });
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
