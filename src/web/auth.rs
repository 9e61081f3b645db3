//! Who may read, and how often: basic authentication, and a limit on requests.
//!
//! A bcrypt hash is slow on purpose. One is computed at a time, outside of the threads that answer, and
//! its result is remembered. Knows no requests, only their headers and their times.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::sync::Semaphore;

use crate::config::web::RateLimit;

/// How many different passwords may wait to be checked: a second or two, as one is checked at a time.
const WAITING: usize = 32;

/// How many results are remembered of each kind.
const REMEMBERED: usize = 100;

/// The cost of the hash for unknown users while there are no users.
const COST: u32 = 10;

/// The salt and the hash that no password is known for.
const NOBODY: &str = ".....................................................";

/// Checks passwords.
pub struct Authenticator {
    key: hmac::Key,
    /// Apart, so that wrong passwords don't drive out right ones.
    right: Mutex<Remembered>,
    wrong: Mutex<Remembered>,
    turn: Arc<Semaphore>,
    waiting: Mutex<Remembered>,
}

/// What is known about who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The password is right, or nobody needs one.
    Right,
    /// The user, the password or the header is wrong.
    Wrong,
    /// Too many passwords wait to be checked.
    Busy,
}

/// User, hash and password, of which nothing can be read from this.
type Fingerprint = [u8; 32];

/// Results, in no order.
type Remembered = HashSet<Fingerprint>;

/// Makes a password count among those that wait; the same one counts once.
struct Waiting<'a> {
    all: &'a Mutex<Remembered>,
    fingerprint: Option<Fingerprint>,
}

impl<'a> Waiting<'a> {
    fn begin(all: &'a Mutex<Remembered>, fingerprint: Fingerprint) -> Option<Self> {
        let mut waiting = all.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING && !waiting.contains(&fingerprint) {
            return None;
        }
        let fingerprint = waiting.insert(fingerprint).then_some(fingerprint);
        Some(Self { all, fingerprint })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(fingerprint) = &self.fingerprint {
            let mut waiting = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.remove(fingerprint);
        }
    }
}

impl Authenticator {
    /// Returns one that remembers nothing.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn new() -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self {
            key: key.map_err(|_| "the system returned no random numbers: restart the exporter")?,
            right: Mutex::default(),
            wrong: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            waiting: Mutex::default(),
        })
    }

    /// Returns whether the header `Authorization` has a user and the password; without users, nobody
    /// needs one.
    ///
    /// A name that is not among the users takes as long as one whose hash has the usual cost.
    pub async fn check(
        &self,
        users: &BTreeMap<String, String>,
        authorization: Option<&HeaderValue>,
    ) -> Verdict {
        if users.is_empty() {
            return Verdict::Right;
        }
        let Some(login) = authorization.and_then(Login::read) else {
            return Verdict::Wrong;
        };
        let hash = login.user.as_ref().and_then(|user| users.get(user));
        let is_user = hash.is_some();
        let hash = hash.cloned().unwrap_or_else(|| hash_of_nobody(users));
        let fingerprint = self.fingerprint(&login, &hash);
        if let Some(verdict) = self.remembered(&fingerprint) {
            return verdict;
        }
        let Some(_waiting) = Waiting::begin(&self.waiting, fingerprint) else {
            return Verdict::Busy;
        };
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else {
            return Verdict::Wrong;
        };
        // Another request may have had the same password.
        if let Some(verdict) = self.remembered(&fingerprint) {
            return verdict;
        }
        let computed = tokio::task::spawn_blocking(move || {
            // It ends after a request that was given up, too.
            let _turn = turn;
            bcrypt::verify(login.password.expose_secret(), &hash).unwrap_or(false)
        });
        let Ok(is_right) = computed.await else {
            return Verdict::Wrong;
        };
        let (kind, verdict) = if is_user && is_right {
            (&self.right, Verdict::Right)
        } else {
            (&self.wrong, Verdict::Wrong)
        };
        let mut remembered = kind.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            let any = remembered.iter().next().copied();
            any.map(|any| remembered.remove(&any));
        }
        remembered.insert(fingerprint);
        verdict
    }

    fn remembered(&self, fingerprint: &Fingerprint) -> Option<Verdict> {
        let knows = |kind: &Mutex<Remembered>| {
            let remembered = kind.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.contains(fingerprint)
        };
        if knows(&self.right) {
            return Some(Verdict::Right);
        }
        knows(&self.wrong).then_some(Verdict::Wrong)
    }

    fn fingerprint(&self, login: &Login, hash: &str) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.key);
        let user = login.user.as_deref().unwrap_or_default().as_bytes();
        for part in [user, hash.as_bytes(), login.password.expose_secret()] {
            // The length keeps apart what other boundaries would make equal.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }
}

/// What a request says of itself.
struct Login {
    /// Nothing if it is not UTF-8, as no user is.
    user: Option<String>,
    password: SecretSlice<u8>,
}

impl Login {
    fn read(authorization: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = authorization.as_bytes().split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let decoded = SecretSlice::from(STANDARD.decode(encoded).ok()?);
        let decoded = decoded.expose_secret();
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let user = String::from_utf8(decoded[..colon].to_vec());
        Some(Self {
            user: user.ok(),
            password: SecretSlice::from(decoded[colon + 1..].to_vec()),
        })
    }
}

/// Returns a hash of the cost that most users have.
fn hash_of_nobody(users: &BTreeMap<String, String>) -> String {
    let mut costs = BTreeMap::new();
    for parts in users
        .values()
        .filter_map(|hash| hash.parse::<HashParts>().ok())
    {
        *costs.entry(parts.get_cost()).or_insert(0) += 1;
    }
    let most = costs.into_iter().max_by_key(|(_, users)| *users);
    let cost = most.map_or(COST, |(cost, _)| cost);
    format!("$2b${cost:02}${NOBODY}")
}

/// A token bucket, as `golang.org/x/time/rate` has it.
#[derive(Debug)]
pub struct RateLimiter {
    limit: RateLimit,
    /// How many tokens there were, and when.
    tokens: Mutex<(f64, Option<Instant>)>,
}

impl RateLimiter {
    /// Returns a full bucket.
    #[must_use]
    pub fn new(limit: RateLimit) -> Self {
        let tokens = Mutex::new((f64::from(limit.burst), None));
        Self { limit, tokens }
    }

    /// Takes a token, if there is one.
    pub fn allow(&self, now: Instant) -> bool {
        let mut state = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, before) = *state;
        let passed = before.map_or(Duration::ZERO, |before| {
            now.saturating_duration_since(before)
        });
        let added = passed.as_secs_f64() / self.limit.interval.as_secs_f64();
        let tokens = (tokens + added).min(f64::from(self.limit.burst));
        let is_allowed = tokens >= 1.0;
        *state = (tokens - f64::from(u8::from(is_allowed)), Some(now));
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Authenticator {
        async fn is_right(
            &self,
            users: &BTreeMap<String, String>,
            authorization: Option<&HeaderValue>,
        ) -> bool {
            self.check(users, authorization).await == Verdict::Right
        }
    }

    /// A hash of the lowest cost, for a test.
    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    fn users(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        let users = list.iter();
        let users = users.map(|(user, password)| ((*user).to_owned(), hash(password)));
        users.collect()
    }

    fn basic(login: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(login))).unwrap()
    }

    fn count(kind: &Mutex<Remembered>) -> usize {
        kind.lock().unwrap().len()
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_user_is_accepted_again_and_again() {
        let authenticator = Authenticator::new().unwrap();
        let users = users(&[("alice", "alice123"), ("carol", "car:ol"), ("", "empty")]);
        for _ in 0..2 {
            for (login, is_right) in [
                ("alice:alice123", true),
                ("carol:car:ol", true),
                (":empty", true),
                ("alice:car:ol", false),
                ("alice:", false),
                ("alice", false),
                ("fakeuser:fakepassword", false),
                ("Alice:alice123", false),
                ("", false),
            ] {
                let result = authenticator.is_right(&users, Some(&basic(login))).await;
                assert_eq!(result, is_right, "{login}");
            }
        }
        assert_eq!(count(&authenticator.right), 3);
        assert_eq!(count(&authenticator.wrong), 4);
    }

    #[tokio::test]
    async fn a_header_of_another_form_is_refused_without_computing_anything() {
        let authenticator = Authenticator::new().unwrap();
        let users = users(&[("alice", "alice123")]);
        for header in [
            None,
            Some(HeaderValue::from_static("")),
            Some(HeaderValue::from_static("Basic")),
            Some(HeaderValue::from_static("Basic %%%")),
            Some(HeaderValue::from_static("Bearer YWxpY2U6YWxpY2UxMjM=")),
            Some(HeaderValue::from_static("BasicYWxpY2U6YWxpY2UxMjM=")),
        ] {
            assert!(
                !authenticator.is_right(&users, header.as_ref()).await,
                "{header:?}"
            );
        }
        assert_eq!(count(&authenticator.wrong), 0);
        let lower = HeaderValue::from_static("basic YWxpY2U6YWxpY2UxMjM=");
        assert!(authenticator.is_right(&users, Some(&lower)).await);
        assert!(authenticator.is_right(&BTreeMap::new(), None).await);
    }

    #[tokio::test]
    async fn bytes_that_are_not_utf_8_are_a_password_but_no_user() {
        let authenticator = Authenticator::new().unwrap();
        let hash = bcrypt::hash(b"\xff", 4).unwrap();
        let users = BTreeMap::from([("alice".to_owned(), hash)]);
        let header = |login: &[u8]| {
            HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(login))).unwrap()
        };
        assert!(
            authenticator
                .is_right(&users, Some(&header(b"alice:\xff")))
                .await
        );
        assert!(
            !authenticator
                .is_right(&users, Some(&header(b"alice\xff:\xff")))
                .await
        );
    }

    #[tokio::test]
    async fn a_new_hash_replaces_what_is_remembered() {
        let authenticator = Authenticator::new().unwrap();
        let header = basic("alice:alice123");
        let check = async |password: &str| {
            let users = users(&[("alice", password)]);
            authenticator.is_right(&users, Some(&header)).await
        };
        assert!(check("alice123").await);
        assert!(!check("other").await);
        assert!(
            !authenticator
                .is_right(&users(&[("bob", "alice123")]), Some(&header))
                .await
        );
    }

    #[test]
    fn user_hash_and_password_are_kept_apart_in_what_is_remembered() {
        let authenticator = Authenticator::new().unwrap();
        let fingerprint = |user: &str, hash: &str, password: &str| {
            let login = Login {
                user: Some(user.to_owned()),
                password: SecretSlice::from(password.as_bytes().to_vec()),
            };
            authenticator.fingerprint(&login, hash)
        };
        let one = fingerprint("alice", "$2y$10", "abc");
        assert_eq!(one, fingerprint("alice", "$2y$10", "abc"));
        for (user, hash, password) in [
            ("alice$2y$10", "", "abc"),
            ("alice", "$2y$10a", "bc"),
            ("alic", "e$2y$10", "abc"),
            ("alice", "$2y$10", "abd"),
        ] {
            assert_ne!(one, fingerprint(user, hash, password), "{user}");
        }
        let other = Authenticator::new().unwrap();
        let login = Login::read(&basic("alice:abc")).unwrap();
        assert_ne!(one, other.fingerprint(&login, "$2y$10"));
    }

    #[tokio::test]
    async fn a_flood_of_wrong_passwords_neither_grows_nor_blocks_those_who_are_logged_in() {
        let authenticator = Arc::new(Authenticator::new().unwrap());
        let users = Arc::new(users(&[("alice", "alice123")]));
        let right = basic("alice:alice123");
        assert!(authenticator.is_right(&users, Some(&right)).await);
        let flood: Vec<_> = (0..250)
            .map(|number| {
                let (authenticator, users) = (Arc::clone(&authenticator), Arc::clone(&users));
                tokio::spawn(async move {
                    let header = basic(&format!("alice:{number}"));
                    authenticator.is_right(&users, Some(&header)).await
                })
            })
            .collect();
        // Somebody else has the turn, for ever.
        let turn = authenticator.turn.acquire().await.unwrap();
        assert!(authenticator.is_right(&users, Some(&right)).await);
        drop(turn);
        for request in flood {
            assert!(!request.await.unwrap());
        }
        assert!(count(&authenticator.wrong) >= WAITING);
        for number in 250..400 {
            let header = basic(&format!("alice:{number}"));
            let verdict = authenticator.check(&users, Some(&header)).await;
            assert_eq!(verdict, Verdict::Wrong);
        }
        assert_eq!(count(&authenticator.wrong), REMEMBERED);
        assert!(authenticator.is_right(&users, Some(&right)).await);
    }

    #[tokio::test]
    async fn many_logins_at_once_are_all_answered() {
        let authenticator = Arc::new(Authenticator::new().unwrap());
        let users = Arc::new(users(&[("alice", "alice123"), ("carol", "carol123")]));
        let logins: Vec<_> = (0..300)
            .map(|number| {
                let (authenticator, users) = (Arc::clone(&authenticator), Arc::clone(&users));
                tokio::spawn(async move {
                    let user = ["alice", "carol"][number % 2];
                    let header = basic(&format!("{user}:{user}123"));
                    authenticator.is_right(&users, Some(&header)).await
                })
            })
            .collect();
        for login in logins {
            assert!(login.await.unwrap());
        }
        assert_eq!(count(&authenticator.right), 2);
    }

    #[test]
    fn the_hash_of_nobody_has_the_cost_that_most_users_have() {
        let cost = |costs: &[u32]| {
            let users = costs
                .iter()
                .enumerate()
                .map(|(number, cost)| (number.to_string(), format!("$2b${cost:02}${NOBODY}")));
            let hash = hash_of_nobody(&users.collect());
            hash.parse::<HashParts>().unwrap().get_cost()
        };
        assert_eq!(cost(&[]), 10);
        assert_eq!(cost(&[12, 12, 10]), 12);
        assert_eq!(cost(&[4]), 4);
        let hash = hash_of_nobody(&users(&[("alice", "")]));
        assert!(!bcrypt::verify("", &hash).unwrap());
    }

    #[test]
    fn a_bucket_is_full_at_the_start_and_gains_a_token_per_interval() {
        let interval = Duration::from_secs(1);
        let limiter = RateLimiter::new(RateLimit { interval, burst: 2 });
        let start = Instant::now();
        let allowed =
            |milliseconds: u64| limiter.allow(start + Duration::from_millis(milliseconds));
        let answers = [
            0, 0, 0, 999, 1000, 1001, 2500, 3000, 3001, 100_000, 100_000, 100_000,
        ];
        let expected = [
            true, true, false, false, true, false, true, true, false, true, true, false,
        ];
        assert_eq!(answers.map(allowed), expected);
        // A clock that goes back adds nothing.
        assert!(!allowed(0));
    }

    #[test]
    fn a_bucket_for_no_tokens_refuses_everything() {
        let interval = Duration::from_nanos(1);
        let limiter = RateLimiter::new(RateLimit { interval, burst: 0 });
        let start = Instant::now();
        for seconds in 0..10 {
            assert!(!limiter.allow(start + Duration::from_secs(seconds)));
        }
    }
}
