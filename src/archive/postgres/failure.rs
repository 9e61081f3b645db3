//! Describes errors of PostgreSQL and of the way to it for operators.
//!
//! The server's own words are repeated only where they are about neither users nor data.

use std::error::Error as _;
use std::io::{self, ErrorKind};

use rustls::CertificateError;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

/// Returns what went wrong and what to do about it.
pub(super) fn describe(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        return of_server(error);
    }
    if error.is_closed() {
        return "the connection was closed; the exporter connects again".to_owned();
    }
    let Some(source) = error.source() else {
        return error.to_string();
    };
    if let Some(error) = source.downcast_ref::<io::Error>() {
        return match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(error) => of_tls(error),
            None => of_connection(error),
        };
    }
    // These are texts without a type.
    match source.to_string().as_str() {
        "server does not support TLS" => {
            "the server has no TLS, which sslmode requires: enable it there, or use sslmode=disable in a network that \
             you trust"
                .to_owned()
        }
        "no hostname provided for TLS handshake" => {
            "TLS needs the name of the server: add its host to hostaddr, or use sslmode=disable".to_owned()
        }
        "password missing" => "the server requires a password, and the URL has none".to_owned(),
        "unsupported authentication method" | "unsupported SASL mechanism" => {
            "the server requires an authentication that is not supported: use scram-sha-256 or md5 (openGauss: \
             password_encryption_type = 1)"
                .to_owned()
        }
        source => format!("{error}: {source}"),
    }
}

fn of_server(error: &DbError) -> String {
    let text = match *error.code() {
        SqlState::INVALID_PASSWORD => "the server rejects the user or the password of the URL",
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "the server admits no such user from this host, or only with TLS: check the user of the URL, sslmode, and \
             pg_hba.conf"
        }
        SqlState::INVALID_CATALOG_NAME => {
            "the server has no such database: create it, or correct the name in the URL"
        }
        SqlState::TOO_MANY_CONNECTIONS => {
            "the server has too many connections: raise max_connections, or use a pooler"
        }
        SqlState::CANNOT_CONNECT_NOW => "the server is starting or shutting down",
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => "the server was shut down",
        SqlState::DISK_FULL => "the disk of the server is full; make room",
        SqlState::READ_ONLY_SQL_TRANSACTION => {
            "the server is a read-only replica: name the primary in the URL, or all hosts and \
             target_session_attrs=read-write"
        }
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => {
            "another program wrote the same rows at the same time"
        }
        SqlState::UNDEFINED_TABLE => {
            "a table of the archive is missing: restore a backup, or restart the exporter, which creates an empty one"
        }
        SqlState::LOCK_NOT_AVAILABLE => {
            "another program holds it locked; if that lasts, end that program"
        }
        SqlState::QUERY_CANCELED => "the server cancelled a statement: check its statement_timeout",
        SqlState::INSUFFICIENT_PRIVILEGE => {
            return format!(
                "the user of the URL lacks a privilege ({}): grant it, or make that user the owner",
                error.message()
            );
        }
        // Those of PgBouncer have no code of their own.
        SqlState::PROTOCOL_VIOLATION => {
            return format!(
                "the server or a pooler before it refuses: {}",
                error.message()
            );
        }
        _ => return format!("{} (SQLSTATE {})", error.message(), error.code().code()),
    };
    text.to_owned()
}

fn of_tls(error: &rustls::Error) -> String {
    let text = match error {
        // A bad signature is that of another authority with the same name.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            "the certificate of the server is not trusted: give its CA with sslrootcert=FILE in the URL"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the certificate of the server is for another host: use a name that it has in the URL, or \
             sslmode=verify-ca"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the certificate of the server has expired",
        error => return format!("TLS: {error}"),
    };
    text.to_owned()
}

fn of_connection(error: &io::Error) -> String {
    let text = match error.kind() {
        ErrorKind::ConnectionRefused => {
            "nothing listens there: start the server, or correct host and port in the URL"
        }
        ErrorKind::TimedOut => {
            "no response: check host and port in the URL, and firewalls on the way"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "there is no route to the server"
        }
        ErrorKind::PermissionDenied if error.to_string().contains("allow writes") => {
            "none of the hosts allows writes: name the primary in the URL"
        }
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
            "the server closed the connection"
        }
        _ if error.to_string().contains("lookup address") => {
            "the name of the host is not found: correct it in the URL, or check DNS"
        }
        _ => return error.to_string(),
    };
    text.to_owned()
}
