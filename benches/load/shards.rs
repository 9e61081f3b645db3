//! What several exporters cost that have one archive in PostgreSQL and a part of the apps each.
//!
//! Needs Debian's `postgresql` package, whose `pg_stat_statements` counts the statements.

use std::thread::sleep;
use std::time::{Duration, Instant};

use wxapp_portrait_exporter::portrait::Window;

use crate::harness::fixture::Home;
use crate::harness::program::{self, Exporter, QUIET, WeChat};
use crate::harness::table::{Figure, Table};
use crate::harness::{mib, millis};
use crate::server::Postgres;
use crate::{SETTLING, pair};

/// Apps and shards of a run without arguments.
const SIZE: (usize, usize) = (10_000, 4);

/// On two processors ten thousand apps take some minutes.
const DEADLINE: Duration = Duration::from_mins(30);

/// For how long exporters are watched after the cycle; they repeat a poll every half an hour, until the figures
/// are settled.
const LATER: Duration = Duration::from_mins(2);

/// As a server is installed; those of the tests are not durable.
const SETTINGS: &str = "fsync = on\nfull_page_writes = on\nsynchronous_commit = on\nshared_buffers = 128MB\n\
                        shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.track_utility = off\n";

/// Measures the first cycle, and the time after it.
pub(crate) fn measure(sizes: &[String]) {
    let sizes: Vec<_> = sizes.iter().map(|size| pair(size).unwrap()).collect();
    let sizes = if sizes.is_empty() { vec![SIZE] } else { sizes };
    let mut table = Table::new(vec![
        "apps x shards",
        "cycle s",
        "portraits",
        "exporters, CPU ms/portrait",
        "PostgreSQL, CPU ms/portrait",
        "statements/portrait",
        "MiB of database/day",
        "MiB of each exporter",
        "threads",
        "later: statements/s",
        "CPU s/min of exporters",
        "of PostgreSQL",
    ]);
    for (apps, shards) in sizes {
        let run = Run::measure(apps, shards);
        println!("{}", run.statements);
        table.add(format!("{apps}x{shards}"), run.figures());
    }
    println!("{}\n\n{table}", program::binary().display());
}

/// CPU time and statements since the start.
#[derive(Clone, Copy)]
struct Costs {
    exporters: Duration,
    postgres: Duration,
    statements: f64,
}

impl Costs {
    fn read(exporters: &[Exporter], server: &Postgres, database: &str) -> Self {
        let statements = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid \
                          WHERE d.datname = current_database()";
        Self {
            exporters: exporters.iter().map(Exporter::cpu).sum(),
            postgres: program::cpu_of_family(server.process()),
            statements: server.sql(database, statements).parse().unwrap(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            exporters: self.exporters.saturating_sub(before.exporters),
            postgres: self.postgres.saturating_sub(before.postgres),
            statements: self.statements - before.statements,
        }
    }
}

struct Run {
    wall: Duration,
    portraits: u64,
    cycle: Costs,
    database_bytes_per_day: f64,
    resident_kib: usize,
    threads: usize,
    later: Costs,
    /// The statements of the cycle, the most frequent first.
    statements: String,
}

impl Run {
    fn measure(apps: usize, shards: usize) -> Self {
        let server = Postgres::start_with(SETTINGS);
        let database = server.database();
        server.sql(&database, "CREATE EXTENSION pg_stat_statements");
        let mut home = Home::new(apps, &Window::ALL[..1]);
        home.store_in_postgres(&server.url(&database));
        let empty: f64 = size(&server, &database);
        let wechat = WeChat::start(&home);
        let start = Instant::now();
        let exporters: Vec<_> = (0..shards)
            .map(|shard| Exporter::start_shard(&home, wechat.port, shard, shards))
            .collect();
        while wechat.portrait_requests().len() < apps {
            assert!(start.elapsed() < DEADLINE, "some apps were not polled");
            sleep(Duration::from_secs(1));
        }
        for exporter in &exporters {
            exporter.wait_until_quiet(QUIET);
        }
        let wall = start.elapsed().saturating_sub(QUIET);
        let cycle = Costs::read(&exporters, &server, &database);
        let statements = "SELECT calls, round(mean_exec_time::numeric, 3), left(regexp_replace(query, '\\s+', ' ', 'g'), 100) \
                          FROM pg_stat_statements s JOIN pg_database d ON d.oid = dbid \
                          WHERE d.datname = current_database() ORDER BY calls DESC LIMIT 12";
        let statements = server.sql(&database, statements);
        sleep(SETTLING);
        let days = "SELECT count(DISTINCT reference_date) FROM portraits";
        let days: f64 = server.sql(&database, days).parse().unwrap();
        server.sql(&database, "VACUUM");
        let database_bytes_per_day = (size(&server, &database) - empty) / days;
        let resident = exporters.iter().map(Exporter::resident_kib);
        let before = Costs::read(&exporters, &server, &database);
        sleep(LATER);
        Self {
            wall,
            portraits: wechat.portrait_requests().iter().sum(),
            cycle,
            database_bytes_per_day,
            resident_kib: resident.max().unwrap(),
            threads: exporters.iter().map(Exporter::threads).max().unwrap(),
            later: Costs::read(&exporters, &server, &database).since(before),
            statements,
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let portraits = self.portraits as f64;
        let minutes = LATER.as_secs_f64() / 60.0;
        vec![
            Figure::new(self.wall.as_secs_f64(), 0),
            Figure::new(portraits, 0),
            Figure::new(millis(self.cycle.exporters) / portraits, 2),
            Figure::new(millis(self.cycle.postgres) / portraits, 2),
            Figure::new(self.cycle.statements / portraits, 2),
            Figure::new(self.database_bytes_per_day / 1024.0 / 1024.0, 1),
            Figure::new(mib(self.resident_kib), 0),
            Figure::new(self.threads as f64, 0),
            Figure::new(self.later.statements / LATER.as_secs_f64(), 1),
            Figure::new(self.later.exporters.as_secs_f64() / minutes, 2),
            Figure::new(self.later.postgres.as_secs_f64() / minutes, 2),
        ]
    }
}

/// Returns the size of a database in bytes.
fn size(server: &Postgres, database: &str) -> f64 {
    let size = server.sql(database, "SELECT pg_database_size(current_database())");
    size.parse().unwrap()
}
