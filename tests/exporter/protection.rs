//! What `--web.config.file` protects, tried with the clients that people have.

use std::process::{Command, Output};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{APP, Home, Prometheus, Running, WeChat, eventually, newer, program};

const USER: &str = "alice:correct horse";

/// Certificates, the web configuration, and the exporter that uses both.
struct Place {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    home: Home,
    _wechat: WeChat,
}

/// An exporter that is protected.
struct Protected {
    running: Running,
    address: String,
}

impl Place {
    async fn new(web_config: &str) -> Self {
        let wechat = WeChat::of(&[APP]).await;
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&key).unwrap().pem();
        let place = Self {
            directory: tempfile::tempdir().unwrap(),
            issuer: Issuer::new(ca, key),
            home: Home::of(&wechat, &[APP]),
            _wechat: wechat,
        };
        place.write("ca.pem", &pem);
        place.certify("server", "localhost");
        place.certify("client", "prometheus.example");
        place.configure(web_config);
        place
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn configure(&self, web_config: &str) {
        let hash = bcrypt::hash_with_salt("correct horse", 4, [7; 16]).unwrap();
        let users = format!("basic_auth_users: {{alice: '{hash}'}}\n");
        self.write("web.yml", &web_config.replace("USERS\n", &users));
    }

    /// Writes a certificate for a name, and its key.
    fn certify(&self, file: &str, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        // With the name of the CA it would be taken for that.
        parameters.distinguished_name = DistinguishedName::new();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{file}.pem"), &certificate.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    fn command(&self) -> Command {
        let mut command = self.home.command();
        command.args(["--web.config.file", &self.path("web.yml")]);
        command
    }

    async fn start(&self) -> Protected {
        let mut running = Running::start(self.command());
        let address = running.said("message=listening address=").await;
        let address = address.replace("127.0.0.1", "localhost");
        let address = address.replace(" tls=true", "");
        Protected { running, address }
    }

    /// Requests a path with curl; returns the status, or 0, and everything that was received.
    fn curl(&self, url: &str, arguments: &[&str]) -> (u16, String) {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--include",
            "--noproxy",
            "*",
            "--max-time",
            "20",
        ]);
        curl.args([
            "--write-out",
            "\n%{http_code}",
            "--cacert",
            &self.path("ca.pem"),
        ]);
        let output = curl.args(arguments).arg(url).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (text, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), text.to_owned())
    }

    fn wget(&self, url: &str, arguments: &[&str]) -> Output {
        let mut wget = Command::new("wget");
        wget.args(["--quiet", "--tries=1", "--no-proxy", "--output-document=-"]);
        wget.arg(format!("--ca-certificate={}", self.path("ca.pem")));
        wget.args(arguments).arg(url).output().unwrap()
    }

    fn is_alive(&self, exporter: &Protected) -> bool {
        let mut check = program();
        check.args(["healthcheck", "--web.listen-address", &exporter.address]);
        let check = check.args(["--web.config.file", &self.path("web.yml")]);
        check.output().unwrap().status.success()
    }

    /// Lets the oldest and the newest Prometheus discover the app of an exporter and scrape both, with more
    /// settings, until both have.
    async fn is_scraped(&self, exporter: &Protected, settings: &Value) {
        let mut discovery = settings.clone();
        let scheme = discovery.as_object_mut().unwrap().remove("scheme");
        let scheme = scheme.unwrap_or_else(|| json!("http"));
        discovery["url"] = json!(exporter.url(scheme.as_str().unwrap(), "/sd"));
        let mut job = json!({
            "job_name": "wxapp",
            "static_configs": [{"targets": [exporter.address]}],
            "http_sd_configs": [discovery],
        });
        let job_of = job.as_object_mut().unwrap();
        job_of.extend(settings.as_object().unwrap().clone());
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [job],
        });
        let newer = newer("prometheus");
        for program in ["prometheus", newer.to_str().unwrap()] {
            let directory = tempfile::tempdir().unwrap();
            let prometheus = Prometheus::run(program, directory, &config);
            prometheus.query("count(up == 1) == 2").await;
        }
    }
}

impl Protected {
    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }
}

const MUTUAL: &str = "tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example]
";

#[tokio::test]
async fn a_client_certificate_is_required_and_verified() {
    let place = Place::new(MUTUAL).await;
    let exporter = place.start().await;
    let metrics = exporter.url("https", "/metrics");
    let (certificate, key) = (place.path("client.pem"), place.path("client.key"));
    let with_certificate = ["--cert", &certificate, "--key", &key];
    for version in [&["--tls-max", "1.2"] as &[&str], &[]] {
        let arguments = [&with_certificate, version].concat();
        let (status, text) = place.curl(&metrics, &arguments);
        assert_eq!(status, 200, "{text}");
        assert_eq!(place.curl(&metrics, version).0, 0);
    }
    place.certify("other", "someone.example");
    let (other, other_key) = (place.path("other.pem"), place.path("other.key"));
    assert_eq!(
        place
            .curl(&metrics, &["--cert", &other, "--key", &other_key])
            .0,
        0
    );
    let arguments = ["--certificate=", "--private-key="];
    let arguments = [
        arguments[0].to_owned() + &certificate,
        arguments[1].to_owned() + &key,
    ];
    let page = place.wget(&metrics, &[&arguments[0], &arguments[1]]);
    assert!(page.stdout.starts_with(b"# HELP"), "{page:?}");
    assert!(!place.wget(&metrics, &[]).status.success());
    assert!(place.is_alive(&exporter));

    let (status, text) = place.curl(&exporter.url("http", "/metrics"), &["--http1.0"]);
    assert_eq!(status, 400, "{text}");
    assert!(
        text.ends_with("Client sent an HTTP request to an HTTPS server.\n"),
        "{text}"
    );

    let settings = json!({
        "scheme": "https",
        "tls_config": {"ca_file": place.path("ca.pem"), "cert_file": certificate, "key_file": key},
    });
    place.is_scraped(&exporter, &settings).await;
    let mut check = program();
    check.args(["healthcheck", "--web.listen-address", &exporter.address]);
    let refused = String::from_utf8(check.output().unwrap().stderr).unwrap();
    assert!(refused.contains("name its --web.config.file"), "{refused}");
    let log = exporter.running.output();
    assert!(
        !log.contains("PRIVATE KEY") && !log.contains("panicked"),
        "{log}"
    );
}

#[tokio::test]
async fn every_path_needs_the_password() {
    let place = Place::new(
        "USERS
http_server_config: {headers: {X-Frame-Options: sameorigin, Strict-Transport-Security: max-age=60}}
",
    )
    .await;
    let exporter = place.start().await;
    for path in [
        "/",
        "/metrics",
        "/-/healthy",
        "/-/ready",
        "/api/v1/status",
        "/sd",
        "/nowhere",
    ] {
        let url = exporter.url("http", path);
        for wrong in [
            &[] as &[&str],
            &["--user", "alice:wrong"],
            &["--user", "bob:correct horse"],
        ] {
            let (status, text) = place.curl(&url, wrong);
            assert_eq!(status, 401, "{path} {wrong:?}");
            let text = text.to_lowercase();
            assert!(text.contains("www-authenticate: basic\r\n"), "{text}");
            assert!(
                text.contains("strict-transport-security: max-age=60\r\n"),
                "{text}"
            );
            assert!(text.ends_with("\r\n\r\nunauthorized\n"), "{text}");
        }
        let (status, text) = place.curl(&url, &["--user", USER]);
        assert_ne!(status, 401, "{path}");
        // The header of the file replaces that of the page.
        assert_eq!(
            text.to_lowercase().matches("x-frame-options:").count(),
            1,
            "{text}"
        );
        assert!(text.contains("sameorigin"), "{text}");
    }
    let reload = exporter.url("http", "/-/reload");
    assert_eq!(place.curl(&reload, &["--request", "POST"]).0, 401);
    assert_eq!(
        place
            .curl(&reload, &["--request", "POST", "--user", USER])
            .0,
        200
    );
    let credentials = [
        "--user=alice",
        "--password=correct horse",
        "--auth-no-challenge",
    ];
    let page = place.wget(&exporter.url("http", "/metrics"), &credentials);
    assert!(page.stdout.starts_with(b"# HELP"), "{page:?}");
    assert!(place.is_alive(&exporter));
    let settings = json!({"basic_auth": {"username": "alice", "password": "correct horse"}});
    place.is_scraped(&exporter, &settings).await;
    let log = exporter.running.output();
    assert!(
        !log.contains("correct horse") && !log.contains("$2b$"),
        "{log}"
    );
}

#[tokio::test]
async fn nothing_is_served_while_the_web_configuration_is_invalid() {
    let place = Place::new("USERS\n").await;
    let mut exporter = place.start().await;
    let metrics = exporter.url("http", "/metrics");
    assert_eq!(place.curl(&metrics, &["--user", USER]).0, 200);
    place.configure("basic_auth_users: {alice: plain}\n");
    for _ in 0..3 {
        let (status, text) = place.curl(&metrics, &["--user", USER]);
        assert_eq!(status, 500);
        assert!(text.ends_with("Internal Server Error\n"), "{text}");
    }
    assert!(!place.is_alive(&exporter));
    // The list of users is removed, and everybody may read.
    place.configure("");
    let (status, page) = place.curl(&metrics, &[]);
    assert_eq!(status, 200);
    assert!(
        page.contains("\nwxapp_portrait_web_config_failures_total 1\n"),
        "{page}"
    );
    exporter.running.said("valid again").await;
    let log = exporter.running.output();
    let lines = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!(lines("message=\"invalid web configuration\""), 1, "{log}");
    assert_eq!(
        lines("message=\"the web configuration is valid again\""),
        1,
        "{log}"
    );
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let config = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n";
    let place = Place::new(config).await;
    let exporter = place.start().await;
    let metrics = exporter.url("https", "/metrics");
    assert_eq!(place.curl(&metrics, &[]).0, 200);
    place.certify("server", "renewed.example");
    assert_eq!(place.curl(&metrics, &[]).0, 0);
    let port = exporter.address.rsplit_once(':').unwrap().1;
    let resolve = format!("renewed.example:{port}:127.0.0.1");
    let renewed = format!("https://renewed.example:{port}/metrics");
    assert_eq!(place.curl(&renewed, &["--resolve", &resolve]).0, 200);
    // While a key does not belong to its certificate, nothing is served.
    let key = std::fs::read_to_string(place.path("server.key")).unwrap();
    place.write("server.key", &KeyPair::generate().unwrap().serialize_pem());
    assert_eq!(place.curl(&renewed, &["--resolve", &resolve]).0, 0);
    place.write("server.key", &key);
    assert_eq!(place.curl(&renewed, &["--resolve", &resolve]).0, 200);
    // TLS cannot be switched off while it runs.
    place.configure("");
    assert_eq!(place.curl(&exporter.url("http", "/metrics"), &[]).0, 400);
    assert_eq!(place.curl(&renewed, &["--resolve", &resolve]).0, 0);
}

#[tokio::test]
async fn no_more_requests_are_answered_than_the_limit_allows() {
    let place = Place::new("rate_limit: {interval: 1h, burst: 2}\n").await;
    let exporter = place.start().await;
    let metrics = exporter.url("http", "/metrics");
    for expected in [200, 200, 429, 429] {
        assert_eq!(place.curl(&metrics, &[]).0, expected);
    }
    let (_, text) = place.curl(&metrics, &[]);
    assert!(text.ends_with("Too Many Requests\n"), "{text}");
    assert!(place.is_alive(&exporter));
}

#[tokio::test]
async fn an_invalid_web_configuration_ends_the_start() {
    let place = Place::new("tls_server_config: {cert_file: gone.pem}\nbasic_auth: {}\n").await;
    for more in [&[] as &[&str], &["--config.check"]] {
        let mut command = place.command();
        // Of both files.
        std::fs::write(place.home.path("wxapp-portrait.yml"), "wondows: [1d]\n").unwrap();
        let output = command.args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8([output.stderr, output.stdout].concat()).unwrap();
        for words in [
            "web.yml:1: tls_server_config",
            "gone.pem",
            "web.yml:2: basic_auth: unknown key",
            "wxapp-portrait.yml:1: wondows: unknown key",
        ] {
            assert!(said.contains(words), "{said}");
        }
        assert!(!place.home.archive_file().exists());
    }
    place.configure("USERS\n");
    let output = place.command().arg("--config.check").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn many_wrong_passwords_do_not_keep_others_out() {
    let place = Place::new("USERS\n").await;
    let exporter = place.start().await;
    let metrics = exporter.url("http", "/metrics");
    let client = crate::harness::client();
    let status = async |password: String| {
        let request = client.get(&metrics).basic_auth("alice", Some(password));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("correct horse".to_owned()).await, 200);
    let attacks = (0..300).map(|number| status(format!("guess {number}")));
    let attacks = futures_util::future::join_all(attacks);
    let scrapes = eventually("scrapes", async || {
        for _ in 0..20 {
            assert_eq!(status("correct horse".to_owned()).await, 200);
        }
        Some(())
    });
    let (attacks, ()) = tokio::join!(attacks, scrapes);
    // Those that would have to wait for long are refused at once.
    assert!(attacks.iter().all(|status| [401, 429].contains(status)));
}
