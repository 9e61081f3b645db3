//! The packages that `dist/build` makes: their contents, and how a bare Debian and rpm install, upgrade
//! and remove them.
//!
//! systemd does not run in a chroot, so the tests do what its unit says: a dynamic user, its directory, its
//! credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use clap::CommandFactory as _;
use glob::Pattern;
use serde_json::{Value, json};
use tempfile::TempDir;
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::cli::Cli;
use wxapp_portrait_exporter::simulator::{self, Settings, secret_of};

use crate::dashboards::days_of_charts;
use crate::documents::tracked;
use crate::harness::{
    APP, Exporter, Home, Prometheus, Running, WeChat, appid, apps_of, client, eventually,
    free_port, now, on_one_day, root, scraping, serve_over_tls, yesterday,
};

/// What writes the manual pages and the completions.
#[expect(dead_code, reason = "its main is not run here")]
#[path = "../../examples/manual.rs"]
mod manual;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A user that systemd could choose.
const DYNAMIC_USER: &str = "61184";

/// What lintian reports of packages that are not part of Debian.
const EXCUSED: &str = "bogus-mail-host,no-changelog,wrong-name-for-upstream-changelog";

/// Runs a command that must succeed; returns its output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output();
    let output =
        output.unwrap_or_else(|error| panic!("{command:?}: {error}: run tests/run --long"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{complaints}");
    said
}

#[track_caller]
fn bash(script: &str) -> String {
    run(Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(root()))
}

/// Returns the metadata of the packages in `Cargo.toml`.
fn metadata() -> Value {
    let list = "cargo metadata --no-deps --offline --locked --format-version 1";
    let metadata: Value = serde_json::from_str(&bash(list)).unwrap();
    metadata["packages"][0]["metadata"].clone()
}

/// Returns the sources and destinations of the files of a kind of package.
fn assets(kind: &str) -> Vec<(String, String)> {
    let metadata = metadata();
    let assets = metadata[kind]["assets"].as_array().unwrap().iter();
    let text = |asset: &Value, name: &str, at: usize| {
        let value = asset.get(name).or_else(|| asset.get(at));
        value.and_then(Value::as_str).unwrap().to_owned()
    };
    assets
        .map(|asset| (text(asset, "source", 0), text(asset, "dest", 1)))
        .collect()
}

/// Returns the paths of the files below a directory, relative to it.
fn files_below(directory: &Path) -> BTreeSet<String> {
    let files = walkdir::WalkDir::new(directory)
        .into_iter()
        .map(Result::unwrap);
    let files = files.filter(|entry| !entry.file_type().is_dir());
    files
        .map(|entry| {
            let path = entry.path().strip_prefix(directory).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn every_asset_of_the_packages_exists() {
    let directory = tempfile::tempdir().unwrap();
    manual::write(directory.path()).unwrap();
    let mut files = files_below(directory.path());
    files.extend(tracked("*"));
    let script = std::fs::read_to_string(root().join("dist/build")).unwrap();
    let script = script.replace("$name", NAME);
    for kind in ["deb", "generate-rpm"] {
        for (source, _) in assets(kind) {
            let exists = match source.strip_prefix("target/") {
                None => root().join(&source).exists(),
                Some(built) => match built.split_once('/').unwrap() {
                    ("release", program) => program == NAME,
                    ("dist", staged) => match staged.split_once('/').unwrap() {
                        ("files", pattern) => {
                            let pattern = Pattern::new(pattern).unwrap();
                            files.iter().any(|file| pattern.matches(file))
                        }
                        ("packaged", name) => {
                            script.contains(&format!("\"$packaged/{}", name.trim_end_matches('*')))
                        }
                        _ => false,
                    },
                    _ => false,
                },
            };
            assert!(exists, "{kind}: {source}");
        }
    }
    let metadata = metadata();
    let scripts = ["post_install", "pre_uninstall", "post_uninstall"];
    for script in scripts.map(|name| &metadata["generate-rpm"][format!("{name}_script")]) {
        assert!(root().join(script.as_str().unwrap()).exists(), "{script}");
    }
}

#[test]
fn both_packages_install_the_same_files() {
    // These are in other directories on Debian, or added by cargo-deb.
    let elsewhere = ["zsh", "LICENSE", "packaged/wxapp-portrait-exporter.service"];
    let of = |kind| {
        let assets = assets(kind).into_iter();
        let paths = assets.map(|(source, to)| format!("{source} {}", to.trim_start_matches('/')));
        let same = |path: &String| !elsewhere.iter().any(|part| path.contains(part));
        paths.filter(same).collect::<BTreeSet<_>>()
    };
    assert_eq!(of("deb"), of("generate-rpm"));
}

#[test]
fn the_manual_and_the_completions_name_every_command_and_flag() {
    let directory = tempfile::tempdir().unwrap();
    manual::write(directory.path()).unwrap();
    let read = |path: String| {
        let text = std::fs::read_to_string(directory.path().join(&path));
        text.unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let completions = [
        (format!("{NAME}.bash"), "--"),
        (format!("_{NAME}"), "--"),
        (format!("{NAME}.fish"), "-l "),
    ];
    let completions =
        completions.map(|(file, dashes)| (read(format!("completions/{file}")), dashes));
    let mut command = Cli::command();
    command.build();
    let of_commands = command
        .get_subcommands()
        .filter(|it| it.get_name() != "help");
    let mut flags = 0;
    for command in of_commands.chain([&command]) {
        let name = command.get_name();
        let page = if name == NAME {
            NAME.to_owned()
        } else {
            for (text, _) in &completions {
                assert!(text.contains(name), "{name}");
            }
            format!("{NAME}-{name}")
        };
        let page = read(format!("man/{page}.1")).replace("\\-", "-");
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            flags += 1;
            assert!(
                page.contains(&format!("--{flag}")),
                "{name}: {flag}: {page}"
            );
            for (text, dashes) in &completions {
                assert!(text.contains(&format!("{dashes}{flag}")), "{name}: {flag}");
            }
        }
    }
    assert!(flags > 50, "{flags}");
}

#[test]
fn bash_completes_commands_and_flags() {
    let directory = tempfile::tempdir().unwrap();
    manual::write(directory.path()).unwrap();
    let file = directory.path().join(format!("completions/{NAME}.bash"));
    for (words, completed) in [("exp", "export"), ("export --storage", "--storage.path")] {
        let said = bash(&format!(
            "source {}; COMP_WORDS=({NAME} {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             function=$(complete -p {NAME} | sed 's/.* -F \\([^ ]*\\).*/\\1/'); \
             $function {NAME} ${{COMP_WORDS[-1]}} ${{COMP_WORDS[-2]}}; echo \"${{COMPREPLY[@]}}\"",
            file.display(),
        ));
        assert_eq!(said.trim(), completed, "{words}");
    }
}

#[test]
fn the_scripts_of_the_packages_pass_shellcheck() {
    bash("shellcheck dist/build dist/deb/*");
    bash("shellcheck --shell=sh dist/rpm/*");
}

/// Runs `dist/build`; returns the checksums of the packages, and the alert rules in the tarball.
fn build(settings: &str) -> (String, String) {
    bash(&format!("{settings} dist/build"));
    let sums = bash(
        "cd target/dist && sha256sum --check --strict --quiet sha256sums.txt && cat sha256sums.txt",
    );
    let rules = bash(&format!(
        "tar -xzOf target/dist/{base}.tar.gz {base}/alerts/wxapp-portrait.rules.yml",
        base = base()
    ));
    (sums, rules)
}

/// The packages for this machine.
struct Packages {
    deb: PathBuf,
    rpm: PathBuf,
    tarball: PathBuf,
}

impl Packages {
    fn build() -> Self {
        let (_, rules) = build("DOCUMENTATION_URL=https://wiki.internal/portraits");
        let url = "https://wiki.internal/portraits/docs/runbook.md#";
        assert!(
            rules.contains(url) && !rules.contains("https://git.internal/wxapp"),
            "{rules}"
        );
        let built = build("");
        let url = "https://git.internal/wxapp-portrait-exporter/docs/runbook.md#";
        assert!(built.1.contains(url), "{}", built.1);
        assert!(built == build(""), "the same commit gives other packages");
        let directory = root().join("target/dist");
        let arch = bash("dpkg --print-architecture");
        Self {
            deb: directory.join(format!("{NAME}_{VERSION}-1_{}.deb", arch.trim())),
            rpm: directory.join(format!("{NAME}-{VERSION}-1.{}.rpm", std::env::consts::ARCH)),
            tarball: directory.join(format!("{}.tar.gz", base())),
        }
    }
}

/// Returns the name of the directory in the tarball.
fn base() -> String {
    let arch = bash("dpkg --print-architecture");
    format!("{NAME}-{VERSION}.linux-{}", arch.trim())
}

/// A WeChat with a name and a certificate, which a bare system must know. Its app lost most users of iPhones
/// yesterday.
struct Upstream {
    wechat: WeChat,
    port: String,
    ca: String,
}

impl Upstream {
    const HOST: &str = "wechat.internal";

    async fn start() -> Self {
        let loss = format!("{}:platform=iPhone:0.4", yesterday());
        let settings = Settings {
            events: vec![loss.parse().unwrap()],
            ..apps_of(&[APP])
        };
        let wechat = WeChat::start(settings, now).await;
        let app = simulator::create_app(Arc::clone(&wechat.simulator));
        let (address, ca) = serve_over_tls(app, &[Self::HOST]).await;
        let (_, port) = address.rsplit_once(':').unwrap();
        Self {
            wechat,
            port: port.to_owned(),
            ca,
        }
    }
}

/// A bare Debian in a directory.
struct Debian {
    root: TempDir,
}

impl Debian {
    fn install() -> Self {
        let codename = bash(". /etc/os-release; echo \"$VERSION_CODENAME\"");
        let codename = codename.trim();
        let mirrors =
            bash("apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages'");
        let mirror = mirrors.lines().find_map(|line| {
            let (of, uri) = line.split_once(' ')?;
            (of == codename).then_some(uri)
        });
        let mirror = mirror.unwrap_or_else(|| panic!("no mirror of {codename}: {mirrors}"));
        let root = tempfile::tempdir().unwrap();
        // Others enter it as well.
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", codename]);
        run(debootstrap.arg(root.path()).arg(mirror));
        Self { root }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Returns a command that runs others in it.
    fn command(&self) -> Command {
        let mut command = Command::new("unshare");
        command
            .arg("--mount-proc")
            .arg("--root")
            .arg(self.root.path())
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            .env("NO_PROXY", "127.0.0.1")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs commands in it.
    #[track_caller]
    fn run(&self, script: &str) -> String {
        run(self
            .command()
            .args(["bash", "-euo", "pipefail", "-c", script]))
    }

    /// Runs the rpm of this machine on it, which knows none of its Debian packages.
    #[track_caller]
    fn rpm(&self, arguments: &[&str]) -> String {
        let mut rpm = Command::new("rpm");
        rpm.arg("--root")
            .arg(self.root.path())
            .args(["--dbpath", "/var/lib/rpm"]);
        run(rpm.args(arguments))
    }

    /// Returns the value of a key in the installed unit.
    fn setting(&self, key: &str) -> String {
        let unit = self.path(&format!("/usr/lib/systemd/system/{NAME}.service"));
        let unit = std::fs::read_to_string(unit).unwrap().replace("\\\n", "");
        let mut lines = unit.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(name, _)| *name == key);
        found.unwrap_or_else(|| panic!("{key}")).1.to_owned()
    }

    /// Returns a command that the dynamic user runs.
    fn command_of_user(&self) -> Command {
        let mut command = self.command();
        command.args(["setpriv", "--no-new-privs", "--clear-groups"]);
        command.args(["--reuid", DYNAMIC_USER, "--regid", DYNAMIC_USER]);
        command
    }

    /// Creates the directories and credentials that systemd would.
    fn create_state(&self) {
        let state = self.setting("StateDirectory");
        let private = format!("/var/lib/private/{state}");
        self.run(&format!(
            "install -d -m 700 /var/lib/private; \
             install -d -m {mode} -o {DYNAMIC_USER} -g {DYNAMIC_USER} {private}; \
             ln -sfn private/{state} /var/lib/{state}; \
             credentials=/run/credentials/{NAME}.service; mkdir -p $credentials; \
             for secret in {secrets}/*; do \
                 install -m 400 -o {DYNAMIC_USER} $secret $credentials/secrets_${{secret##*/}}; \
             done",
            mode = self.setting("StateDirectoryMode"),
            secrets = self
                .setting("LoadCredential")
                .strip_prefix("secrets:")
                .unwrap(),
        ));
        // The directory above is for root only, so systemd mounts the one below it.
        self.run("chmod 755 /var/lib/private");
    }

    /// Starts the exporter as the unit would, on a free port.
    async fn start(&self, upstream: &Upstream) -> Exporter {
        self.create_state();
        let mut command = self.command_of_user();
        let start = self.setting("ExecStart");
        let state = format!("/var/lib/{}", self.setting("StateDirectory"));
        let words = start.split_whitespace();
        command.args(words.map(|word| word.replace("${STATE_DIRECTORY}", &state)));
        command.arg(format!("--web.listen-address=127.0.0.1:{}", free_port()));
        Exporter::start(command, vec![appid(APP)], Some(&upstream.wechat.simulator)).await
    }

    /// Returns the archived days as the program exports them.
    fn archived(&self) -> String {
        self.run(&format!(
            "{NAME} export --format jsonl --storage.path /var/lib/{NAME} --log.level error"
        ))
    }

    /// Configures one app as the documents describe.
    fn configure(&self, upstream: &Upstream) {
        let secret = secret_of(&appid(APP));
        let config = "/etc/wxapp-portrait/wxapp-portrait.yml";
        self.run(&format!(
            "echo {secret} | install -m 600 /dev/stdin /etc/wxapp-portrait/secrets/shop; \
             sed -i 's/^  # /  /; s/wx0123456789abcdef/{APP}/' {config}; \
             echo 'wechat: {{base_url: \"https://{}:{}\"}}' >>{config}; \
             echo 'holidays: {{calendar: none}}' >>{config}",
            Upstream::HOST,
            upstream.port,
        ));
    }

    /// Imports the days that another exporter has archived.
    fn import(&self, upstream: &Upstream) {
        let home = Home::of(&upstream.wechat, &[APP]);
        home.archive(&upstream.wechat, &[APP], 40);
        let mut export = home.command_of("export");
        let days = run(export.args(["--format", "jsonl"]));
        // The figures of yesterday are final as well.
        let days = days.replace("\"settled\":false", "\"settled\":true");
        std::fs::write(self.path("/tmp/days.jsonl"), days).unwrap();
        self.create_state();
        let state = format!("/var/lib/{}", self.setting("StateDirectory"));
        run(self.command_of_user().args([
            NAME,
            "import",
            "--storage.path",
            &state,
            "/tmp/days.jsonl",
        ]));
    }

    /// Makes it know the name and the certificate of WeChat.
    fn connect(&self, upstream: &Upstream) {
        std::fs::write(
            self.path("/usr/local/share/ca-certificates/wechat.crt"),
            &upstream.ca,
        )
        .unwrap();
        self.run(&format!(
            "echo 127.0.0.1 {} >>/etc/hosts; update-ca-certificates",
            Upstream::HOST
        ));
    }
}

/// Asserts that a package has what the documents name; paths start with a slash.
fn assert_contents(what: &str, files: &BTreeSet<String>) {
    let mut wanted: Vec<_> = tracked("docs/*.md")
        .into_iter()
        .map(|file| format!("/usr/share/doc/{NAME}/{file}"))
        .collect();
    let share = format!("/usr/share/{NAME}");
    wanted.extend(
        tracked("alerts/*")
            .into_iter()
            .map(|file| format!("{share}/{file}")),
    );
    let dashboards = ["overview", "app", "exporter"];
    wanted.extend(dashboards.map(|name| format!("{share}/dashboards/wxapp-portrait-{name}.json")));
    wanted.extend(
        [
            "/usr/bin/wxapp-portrait-exporter",
            "/usr/lib/systemd/system/wxapp-portrait-exporter.service",
            "/etc/wxapp-portrait/wxapp-portrait.yml",
            "/usr/share/doc/wxapp-portrait-exporter/README.md",
            "/usr/share/doc/wxapp-portrait-exporter/deploy/systemd/README.md",
            "/usr/share/man/man1/wxapp-portrait-exporter.1.gz",
            "/usr/share/man/man1/wxapp-portrait-exporter-check.1.gz",
            "/usr/share/bash-completion/completions/wxapp-portrait-exporter",
            "/usr/share/fish/vendor_completions.d/wxapp-portrait-exporter.fish",
        ]
        .map(str::to_owned),
    );
    for path in wanted {
        assert!(files.contains(&path), "{what} has no {path}: {files:#?}");
    }
    let of_sources = |path: &&String| path.contains("/src/") || path.contains("/tests/");
    assert_eq!(files.iter().find(of_sources), None, "{what}");
}

fn assert_contents_of_packages(packages: &Packages) {
    let listed = run(Command::new("dpkg-deb")
        .arg("--contents")
        .arg(&packages.deb));
    let mut files = BTreeMap::new();
    for line in listed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        assert!(["root/root", "0/0"].contains(&words[1]), "{line}");
        files.insert(
            words[5].trim_start_matches('.').to_owned(),
            words[0].to_owned(),
        );
    }
    assert_eq!(files["/usr/bin/wxapp-portrait-exporter"], "-rwxr-xr-x");
    assert_eq!(
        files["/etc/wxapp-portrait/wxapp-portrait.yml"],
        "-rw-r--r--"
    );
    assert_contents("the .deb", &files.into_keys().collect());
    let conffiles = run(Command::new("dpkg-deb")
        .args(["--info"])
        .arg(&packages.deb)
        .arg("conffiles"));
    assert_eq!(conffiles.trim(), "/etc/wxapp-portrait/wxapp-portrait.yml");
    run(Command::new("lintian")
        .args([
            "--fail-on",
            "error,warning",
            "--allow-root",
            "--suppress-tags",
            EXCUSED,
        ])
        .arg(&packages.deb));

    let query = |option: &str| {
        run(Command::new("rpm")
            .args(["--query", "--package", option])
            .arg(&packages.rpm))
    };
    let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_contents("the .rpm", &lines(query("--list")));
    assert_eq!(
        query("--configfiles").trim(),
        "/etc/wxapp-portrait/wxapp-portrait.yml"
    );
    let required = query("--requires");
    assert!(
        required.contains("ca-certificates") && required.contains("glibc >= 2.34"),
        "{required}"
    );

    let listed = run(Command::new("tar").arg("-tzf").arg(&packages.tarball));
    for file in [
        NAME,
        "LICENSE",
        "README.md",
        "wxapp-portrait.yml",
        "alerts/wxapp-portrait.rules.yml",
        "alerts/alertmanager/wecom.yml",
        "dashboards/wxapp-portrait-overview.json",
        "deploy/systemd/wxapp-portrait-exporter.service",
        "docs/packages.md",
        "man/wxapp-portrait-exporter.1",
        "completions/wxapp-portrait-exporter.bash",
    ] {
        let path = format!("{}/{file}", base());
        assert!(
            listed.lines().any(|line| line == path),
            "no {path}: {listed}"
        );
    }
}

// Commands that wait for WeChat block the thread of the test.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn packages_install_on_a_bare_debian_and_keep_the_archive() {
    let packages = Packages::build();
    assert_contents_of_packages(&packages);
    on_one_day(async || {
        let debian = Debian::install();
        let upstream = Upstream::start().await;
        install_deb(&debian, &packages.deb, &upstream).await;
        upgrade_deb(&debian, &packages.deb, &upstream).await;
        use_rpm(&debian, &packages.rpm, &upstream).await;
        use_tarball(&debian, &packages.tarball);
    })
    .await;
}

/// Follows the instructions for a new user.
#[expect(
    clippy::print_stdout,
    reason = "the times are for the reader of the long tests"
)]
async fn install_deb(debian: &Debian, deb: &Path, upstream: &Upstream) {
    std::fs::copy(deb, debian.path("/root/exporter.deb")).unwrap();
    let start = Instant::now();
    let mut steps = Vec::new();
    let mut step = |what: &'static str| steps.push((what, start.elapsed()));
    debian
        .run("apt-get update && apt-get install --yes --no-install-recommends /root/exporter.deb");
    step("installed");
    let version = debian.run(&format!("{NAME} --version"));
    assert!(
        version.starts_with(&format!("{NAME} {VERSION} (revision")),
        "{version}"
    );
    let help = debian.run(&format!("{NAME} --help"));
    assert!(help.contains("Usage: ") && help.contains("check"), "{help}");
    assert_eq!(
        debian
            .run("stat --format %a /etc/wxapp-portrait/secrets")
            .trim(),
        "700"
    );
    // It has no app yet, so it is neither started nor enabled.
    assert!(!debian.has(&format!(
        "/etc/systemd/system/multi-user.target.wants/{NAME}.service"
    )));
    let unconfigured = debian.run(&format!(
        "{NAME} --config.file=/etc/wxapp-portrait/wxapp-portrait.yml --config.check 2>&1 || echo $?"
    ));
    assert!(
        unconfigured.contains("apps: none is configured") && unconfigured.ends_with("2\n"),
        "{unconfigured}"
    );
    run(Command::new("systemd-analyze")
        .args(["--man=no", "--recursive-errors=no", "--root"])
        .arg(debian.root.path())
        .args(["verify", &format!("/usr/lib/systemd/system/{NAME}.service")]));

    debian.connect(upstream);
    debian.configure(upstream);
    step("configured");
    debian.import(upstream);
    step("40 days imported");
    let exporter = debian.start(upstream).await;
    step("started");
    exporter.ready().await;
    let (status, page) = exporter.get("/").await;
    step("the page has yesterday's users");
    assert!(
        status == 200 && page.contains(APP) && page.contains("商城"),
        "{page}"
    );
    let checked = debian.run(&format!(
        "{NAME} check --config.file=/etc/wxapp-portrait/wxapp-portrait.yml"
    ));
    assert!(checked.contains("商城"), "{checked}");
    step("checked");
    debian.run("apt-get install --yes --no-install-recommends prometheus prometheus-alertmanager");
    step("Prometheus and Alertmanager of Debian installed");
    let alertmanager = Alertmanager::start(debian).await;
    let prometheus = monitor(debian, &exporter, &alertmanager);
    let alert = alertmanager.alert("WxappPortraitPlatformUsersSwing").await;
    step("the alert is in Alertmanager");
    let charts = days_of_charts(&prometheus, "wxapp-portrait-overview").await;
    let day = calendar::days_before(yesterday(), 1);
    let has_it = |days: &BTreeSet<_>| days.contains(&day);
    assert!(
        charts.len() > 2 && charts.values().all(has_it),
        "{charts:?}"
    );
    step("every chart by day of the overview has the day before yesterday");
    println!("A bare Debian, from nothing to an alert:");
    for (what, time) in steps {
        println!("{:6.1} s  {what}", time.as_secs_f64());
    }
    println!("{checked}{alert}");
    stop(exporter).await;
}

/// The Alertmanager of Debian, with a configuration of the package.
struct Alertmanager {
    address: String,
    _running: Running,
}

impl Alertmanager {
    async fn start(debian: &Debian) -> Self {
        let mut command = debian.command();
        command.arg("prometheus-alertmanager").args([
            &format!("--config.file=/usr/share/{NAME}/alerts/alertmanager/nobody.yml"),
            "--storage.path=/tmp/alertmanager",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
        ]);
        let mut running = Running::start(command);
        Self {
            address: running.said("\"Listening on\" address=").await,
            _running: running,
        }
    }

    /// Waits for an alert; returns its Chinese sentence.
    async fn alert(&self, name: &str) -> String {
        let url = format!("http://{}/api/v2/alerts", self.address);
        eventually(name, async || {
            let alerts = client().get(&url).send().await.ok()?.bytes().await.ok()?;
            let alerts: Vec<Value> = serde_json::from_slice(&alerts).ok()?;
            let mut alerts = alerts.iter();
            let alert = alerts.find(|alert| alert["labels"]["alertname"] == name)?;
            Some(
                alert["annotations"]["description_zh"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            )
        })
        .await
    }
}

/// Starts the Prometheus of Debian with the rules of the package and the archived days, as docs/alerting.md and
/// docs/archive.md describe.
fn monitor(debian: &Debian, exporter: &Exporter, alertmanager: &Alertmanager) -> Prometheus {
    debian.run(&format!(
        "cp /usr/share/{NAME}/alerts/wxapp-portrait.rules.yml /etc/prometheus/; \
         promtool check rules /etc/prometheus/wxapp-portrait.rules.yml; \
         {NAME} export --format openmetrics --config.file /etc/wxapp-portrait/wxapp-portrait.yml \
             --storage.path /var/lib/{NAME} >/tmp/history.om; \
         promtool tsdb create-blocks-from --max-block-duration=720h openmetrics /tmp/history.om /tmp/prometheus"
    ));
    let mut config = scraping(&[exporter]);
    config["global"]["evaluation_interval"] = json!("1s");
    config["rule_files"] = json!(["wxapp-portrait.rules.yml"]);
    let targets = json!([{"targets": [alertmanager.address]}]);
    config["alerting"] = json!({"alertmanagers": [{"static_configs": targets}]});
    let file = "/etc/prometheus/prometheus.yml";
    std::fs::write(debian.path(file), config.to_string()).unwrap();
    let mut command = debian.command();
    command.args(["prometheus", "--storage.tsdb.path=/tmp/prometheus"]);
    command.arg(format!("--config.file={file}"));
    for name in ["overview", "app", "exporter"] {
        let file = format!("dashboards/wxapp-portrait-{name}.json");
        let packaged = std::fs::read(debian.path(&format!("/usr/share/{NAME}/{file}"))).unwrap();
        assert!(
            packaged == std::fs::read(root().join(&file)).unwrap(),
            "{file}"
        );
    }
    Prometheus::of(command, tempfile::tempdir().unwrap())
}

async fn stop(mut exporter: Exporter) {
    exporter.running.signal("TERM");
    let (end, _) = exporter.running.ended().await;
    assert!(end.success(), "{end}: {}", exporter.running.output());
}

/// Installs a later version, with another configuration in it, then removes and purges it.
async fn upgrade_deb(debian: &Debian, deb: &Path, upstream: &Upstream) {
    let later = tempfile::tempdir().unwrap();
    bash(&format!(
        "dpkg-deb --raw-extract {deb} {later}/package; \
         sed -i 's/^Version: .*/Version: {VERSION}-2/' {later}/package/DEBIAN/control; \
         echo '# New.' >>{later}/package/etc/wxapp-portrait/wxapp-portrait.yml; \
         dpkg-deb --root-owner-group --build {later}/package {to}",
        deb = deb.display(),
        later = later.path().display(),
        to = debian.path("/root/later.deb").display(),
    ));
    let archive = debian.archived();
    assert!(archive.contains(APP), "{archive}");
    let config = "/etc/wxapp-portrait/wxapp-portrait.yml";
    let configured = debian.run(&format!("cat {config}"));
    debian.run("apt-get install --yes -o Dpkg::Options::=--force-confold /root/later.deb");
    assert_eq!(
        debian.run("dpkg-query --show --showformat '${Version}' wxapp-portrait-exporter"),
        format!("{VERSION}-2")
    );
    assert_eq!(debian.run(&format!("cat {config}")), configured);
    assert!(debian.has(&format!("{config}.dpkg-dist")));
    assert_eq!(debian.archived(), archive);
    let exporter = debian.start(upstream).await;
    exporter.ready().await;
    stop(exporter).await;

    let archive = std::fs::read(debian.path(&format!("/var/lib/{NAME}/portraits.db"))).unwrap();
    debian.run(&format!("apt-get remove --yes {NAME}"));
    assert!(!debian.has("/usr/bin/wxapp-portrait-exporter"));
    assert_eq!(debian.run(&format!("cat {config}")), configured);
    assert!(debian.has("/etc/wxapp-portrait/secrets/shop"));
    let kept = std::fs::read(debian.path(&format!("/var/lib/private/{NAME}/portraits.db")));
    assert!(kept.unwrap() == archive);
    debian.run(&format!("apt-get purge --yes {NAME}"));
    for path in [
        "/etc/wxapp-portrait",
        "/var/lib/wxapp-portrait-exporter",
        "/var/lib/private/wxapp-portrait-exporter",
    ] {
        assert!(!debian.has(path), "{path}");
    }
}

async fn use_rpm(debian: &Debian, rpm: &Path, upstream: &Upstream) {
    // Its dependencies are Debian packages here.
    debian.rpm(&["--install", "--nodeps", rpm.to_str().unwrap()]);
    debian.rpm(&["--verify", "--nodeps", NAME]);
    debian.configure(upstream);
    let exporter = debian.start(upstream).await;
    exporter.ready().await;
    stop(exporter).await;
    let archive = debian.archived();
    let config = "/etc/wxapp-portrait/wxapp-portrait.yml";
    let configured = debian.run(&format!("cat {config}"));

    let later = tempfile::tempdir().unwrap();
    let later = later.path().join("later.rpm");
    bash(&format!(
        "target/tools/bin/cargo-generate-rpm generate-rpm --target {}-unknown-linux-gnu \
         --set-metadata 'release = \"2\"' --output {}",
        std::env::consts::ARCH,
        later.display(),
    ));
    debian.rpm(&["--upgrade", "--nodeps", later.to_str().unwrap()]);
    assert_eq!(
        debian.rpm(&["--query", "--queryformat", "%{RELEASE}", NAME]),
        "2"
    );
    assert_eq!(debian.run(&format!("cat {config}")), configured);
    assert_eq!(debian.archived(), archive);

    debian.rpm(&["--erase", NAME]);
    assert!(!debian.has("/usr/bin/wxapp-portrait-exporter"));
    assert_eq!(debian.run(&format!("cat {config}.rpmsave")), configured);
    assert!(debian.has("/etc/wxapp-portrait/secrets/shop"));
    assert!(debian.has(&format!("/var/lib/private/{NAME}/portraits.db")));
}

fn use_tarball(debian: &Debian, tarball: &Path) {
    std::fs::copy(tarball, debian.path("/root/exporter.tar.gz")).unwrap();
    let said = debian.run(&format!(
        "cd /root && tar -xzf exporter.tar.gz && cd {} && ./{NAME} --version && (./{NAME} --config.check 2>&1 || true)",
        base(),
    ));
    assert!(
        said.contains(VERSION) && said.contains("apps: none is configured"),
        "{said}"
    );
}
