//! A client that scrapes as Prometheus does: it keeps its connection open.
//!
//! Does not depend on what is served.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// A longer head of a response is a mistake.
const HEAD: usize = 16 << 10;

/// A client of one server.
pub(crate) struct Client {
    port: u16,
    request: String,
    /// The connection that is open, if any.
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// What a scrape took.
pub(crate) struct Scrape {
    /// From sending the request to the last byte of the response.
    pub(crate) time: Duration,
    /// Of the body.
    pub(crate) bytes: usize,
}

impl Client {
    /// Prepares to request a path in an encoding.
    pub(crate) fn new(port: u16, path: &str, encoding: &str) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench\r\n\
             Accept: text/plain;version=0.0.4;q=0.3,*/*;q=0.1\r\nAccept-Encoding: {encoding}\r\n\r\n"
        );
        Self {
            port,
            request,
            stream: None,
            buffer: vec![0; BUFFER],
        }
    }

    /// Scrapes once; connects again if the server has closed the connection since.
    pub(crate) fn scrape(&mut self) -> Scrape {
        let kept = self.stream.take();
        let scraped = kept.and_then(|stream| self.exchange(stream).ok());
        scraped.unwrap_or_else(|| {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
            stream.set_nodelay(true).unwrap();
            self.exchange(stream).unwrap()
        })
    }

    fn exchange(&mut self, mut stream: TcpStream) -> io::Result<Scrape> {
        let start = Instant::now();
        stream.write_all(self.request.as_bytes())?;
        let mut filled = 0;
        let head = loop {
            let read = stream.read(&mut self.buffer[filled..])?;
            if read == 0 || filled > HEAD {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let end = self.buffer[..filled]
                .windows(4)
                .take(HEAD)
                .position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        assert!(text.split(' ').nth(1) == Some("200"), "{text}");
        let header = |name: &str| {
            let lines = text.lines();
            let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            values.next()
        };
        let length: usize = header("content-length").unwrap().parse().unwrap();
        let mut bytes = filled - head;
        while bytes < length {
            match stream.read(&mut self.buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => bytes += read,
            }
        }
        let time = start.elapsed();
        if text.starts_with("http/1.1") && header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(Scrape { time, bytes })
    }
}
