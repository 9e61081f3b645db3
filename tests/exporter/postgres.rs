//! How the archive connects to PostgreSQL: TLS, pools, and what operators read when it fails.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;

use secrecy::SecretString;
use tokio_postgres::Client;
use wxapp_portrait_exporter::archive::Database;

use crate::harness::{APP, Home, WeChat, eventually, program};
use crate::postgres_server::{PASSWORD, PgBouncer, Postgres};

async fn connect(url: &str) -> Result<Client, String> {
    let database = Database::parse(&SecretString::from(url), Path::new("/")).unwrap();
    let result = database.connect().await;
    if let Err(problem) = &result {
        assert!(!problem.contains(PASSWORD), "{problem}");
        assert!(!problem.contains("wxapp"), "{problem}");
    }
    result
}

/// Returns whether the connection to a URL is encrypted, or why there is none.
async fn is_encrypted(url: &str) -> Result<bool, String> {
    let client = connect(url).await?;
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let rows = client.query_typed(query, &[]).await.unwrap();
    Ok(rows[0].get(0))
}

#[tokio::test]
async fn tls_is_used_and_verified_as_sslmode_says() {
    let server = Postgres::shared();
    let database = server.database();
    let url = server.url(&database);
    let localhost = url.replace("127.0.0.1", "localhost");
    let (ca, own) = (server.ca(), server.certificate());
    let (ca, own) = (ca.display(), own.display());
    let another = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(another.cert.pem().as_bytes()).unwrap();
    let other_ca = file.path().display();
    let untrusted = "the certificate of the server is not trusted: give its CA with sslrootcert=FILE in the URL";
    let another_host = "the certificate of the server is for another host: use a name that it has in the URL, or \
                        sslmode=verify-ca";
    for (url, parameters, expected) in [
        (&url, String::new(), Ok(true)),
        (&url, "sslmode=disable".to_owned(), Ok(false)),
        (&url, "sslmode=prefer".to_owned(), Ok(true)),
        (&url, "sslmode=require".to_owned(), Ok(true)),
        (
            &url,
            "sslmode=require&channel_binding=require".to_owned(),
            Ok(true),
        ),
        (&url, format!("sslmode=require&sslrootcert={ca}"), Ok(true)),
        (
            &url,
            format!("sslmode=require&sslrootcert={other_ca}"),
            Err(untrusted),
        ),
        (
            &url,
            format!("sslmode=verify-ca&sslrootcert={ca}"),
            Ok(true),
        ),
        (
            &url,
            format!("sslmode=verify-ca&sslrootcert={other_ca}"),
            Err(untrusted),
        ),
        (&url, "sslmode=verify-ca".to_owned(), Err(untrusted)),
        (
            &url,
            "sslmode=verify-full&sslrootcert=system".to_owned(),
            Err(untrusted),
        ),
        (
            &localhost,
            format!("sslmode=verify-full&sslrootcert={ca}"),
            Ok(true),
        ),
        (
            &localhost,
            format!("sslmode=verify-full&sslrootcert={own}"),
            Ok(true),
        ),
        (
            &localhost,
            format!("sslmode=verify-full&sslrootcert={other_ca}"),
            Err(untrusted),
        ),
        (
            &url,
            format!("sslmode=verify-full&sslrootcert={ca}"),
            Err(another_host),
        ),
        (
            &url,
            format!("sslmode=verify-full&sslrootcert={own}"),
            Err(another_host),
        ),
    ] {
        let result = is_encrypted(&format!("{url}?{parameters}")).await;
        assert_eq!(result, expected.map_err(str::to_owned), "{parameters}");
    }
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_may_be_in_between() {
    let server = Postgres::shared();
    let pooler = PgBouncer::start(server);
    let url = pooler.url(&server.database());
    let client = connect(&url).await.unwrap();
    for number in 0..3_i32 {
        let query = "SELECT $1 + 1";
        let parameter = (
            &number as &(dyn tokio_postgres::types::ToSql + Sync),
            tokio_postgres::types::Type::INT4,
        );
        let rows = client.query_typed(query, &[parameter]).await.unwrap();
        assert_eq!(rows[0].get::<_, i32>(0), number + 1);
    }
    // It has no TLS.
    let problem = is_encrypted(&format!("{url}?sslmode=require"))
        .await
        .unwrap_err();
    assert!(
        problem.starts_with("the server has no TLS, which sslmode requires"),
        "{problem}"
    );
}

#[tokio::test]
async fn what_fails_is_described_for_operators() {
    let server = Postgres::shared();
    let database = server.database();
    let url = server.url(&database);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let without_password = url.replace(&format!(":{PASSWORD}"), "");
    for (url, expected) in [
        (
            url.replace(PASSWORD, "another-secret"),
            "the server rejects the user or the password of the URL",
        ),
        (
            without_password,
            "the server requires a password, and the URL has none",
        ),
        (
            url.replace(&database, "nowhere"),
            "the server has no such database: create it, or correct the name in the URL",
        ),
        (
            format!("postgres://u:p@127.0.0.1:{port}/x"),
            "nothing listens there: start the server, or correct host and port in the URL",
        ),
        (
            "postgres://u:p@nowhere.invalid/x".to_owned(),
            "the name of the host is not found: correct it in the URL, or check DNS",
        ),
        (
            format!("postgres://u:p@127.0.0.1:{silent_port}/x?connect_timeout=1"),
            "the server accepts the connection, but says nothing for 2s",
        ),
        (
            format!(
                "{url}?options=-c%20default_transaction_read_only%3Don&target_session_attrs=read-write"
            ),
            "none of the hosts allows writes: name the primary in the URL",
        ),
    ] {
        assert_eq!(connect(&url).await.unwrap_err(), expected);
    }
    // The next host is tried.
    let both = url.replace("127.0.0.1", &format!("127.0.0.1:{port},127.0.0.1"));
    assert!(connect(&both).await.is_ok());
}

#[tokio::test]
async fn a_server_that_was_killed_is_reached_again() {
    let server = Postgres::start();
    let url = server.url(&server.database());
    let client = connect(&url).await.unwrap();
    server.kill();
    // Its processes end one after the other.
    eventually("the connection to end", async || {
        let answer = client.query_typed("SELECT 1", &[]).await;
        answer.is_err().then_some(())
    })
    .await;
    server.start_again();
    let client = connect(&url).await.unwrap();
    server.stop();
    assert!(client.query_typed("SELECT 1", &[]).await.is_err());
}

#[tokio::test]
async fn a_url_that_is_missing_ends_the_start_with_the_line_of_its_key() {
    let wechat = WeChat::of(&[APP]).await;
    let mut home = Home::of(&wechat, &[APP]);
    home.config["archive"] = serde_json::json!({"postgres_url_file": "gone"});
    for flag in ["--config.check", "--log.level=info"] {
        let mut command = program();
        let output = command
            .arg("--config.file")
            .arg(home.configure())
            .arg(flag)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text =
            String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains(":1: archive.postgres_url_file: cannot read "),
            "{text}"
        );
    }
}

#[test]
fn a_command_that_does_not_use_the_database_of_the_configuration_says_so() {
    let mut home = Home::new("http://127.0.0.1:1", &[APP]);
    home.config["archive"] = serde_json::json!({"postgres_url_file": "url"});
    let config = home.configure();
    let directory = config.parent().unwrap();
    std::fs::write(directory.join("url"), "postgres://127.0.0.1:1/portraits").unwrap();
    let export = |flags: &[&str]| {
        let mut command = program();
        command
            .current_dir(directory)
            .args(["export", "--format=csv"]);
        let output = command.args(flags).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let text = export(&["--config.file=wxapp-portrait.yml"]);
    assert!(!text.contains("add --config.file"), "{text}");
    let text = export(&[]);
    assert!(
        text.contains(
            "wxapp-portrait.yml has archive.postgres_url_file, and this command uses the file"
        ),
        "{text}"
    );
    assert!(
        text.contains("add --config.file=wxapp-portrait.yml"),
        "{text}"
    );
}
