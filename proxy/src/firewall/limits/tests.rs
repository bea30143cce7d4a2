use governor::clock::FakeRelativeClock;
use http::{HeaderMap, HeaderValue, Method, Version};

use super::*;
use crate::firewall::facts::WorkedOut;

fn limit(key: &[LimitKey], burst: u32, max_keys: u32) -> RateLimit {
    let toml = "[proxy]\nhttp = [\"127.0.0.1:80\"]\n[[firewall.limits]]\nid = \"l\"\nrate = \"10/1s\"\n";
    let config = weir_config::Config::parse(toml, std::path::Path::new("/")).expect("valid");
    RateLimit { key: key.to_vec(), burst, max_keys, ..config.firewall.rules.limits[0].clone() }
}

struct Asked {
    bucket: Bucket<FakeRelativeClock>,
    clock: FakeRelativeClock,
    counts: Counts,
}

impl Asked {
    fn new(key: &[LimitKey], burst: u32, max_keys: u32) -> Self {
        let clock = FakeRelativeClock::default();
        Self {
            bucket: Bucket::new(&limit(key, burst, max_keys), clock.clone()),
            clock,
            counts: Counts::default(),
        }
    }

    fn take(&self, address: &str, path: &str, header: Option<&'static str>) -> Result<(), Duration> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert("x-key", HeaderValue::from_static(value));
        }
        let facts = Facts {
            method: &Method::GET,
            raw_path: path,
            query: "",
            headers: &headers,
            host: "a.test",
            zone: "a.test",
            address: address.parse().expect("an address"),
            tls: None,
            version: Version::HTTP_11,
            websocket: false,
            countries: None,
            worked_out: WorkedOut::default(),
        };
        self.bucket.take(&facts, &self.counts)
    }

    /// How many of `tries` requests pass.
    fn passes(&self, tries: usize, address: &str) -> usize {
        (0..tries).filter(|_| self.take(address, "/", None).is_ok()).count()
    }

    fn crowded(&self) -> u64 {
        let id = &self.bucket.limit.id;
        self.counts.read(None, Stage::Limit, id).find(|count| count.outcome == "crowded").expect("a count").n
    }
}

#[test]
fn a_burst_passes_at_once_and_then_the_rate() {
    let asked = Asked::new(&[LimitKey::Client], 5, 100);
    assert_eq!(asked.passes(20, "192.0.2.1"), 5);
    let wait = asked.take("192.0.2.1", "/", None).expect_err("full");
    assert_eq!(wait, Duration::from_millis(100));
    asked.clock.advance(Duration::from_millis(99));
    assert_eq!(asked.passes(1, "192.0.2.1"), 0);
    asked.clock.advance(Duration::from_millis(1));
    assert_eq!(asked.passes(20, "192.0.2.1"), 1);
    asked.clock.advance(Duration::from_secs(60));
    assert_eq!(asked.passes(20, "192.0.2.1"), 5, "never more than the burst");
}

#[test]
fn keys_are_the_parts_that_are_named() {
    let asked = Asked::new(&[LimitKey::Client], 1, 100);
    assert_eq!(asked.passes(2, "192.0.2.1") + asked.passes(2, "192.0.2.2"), 2);
    assert_eq!(asked.passes(2, "2001:db8::1") + asked.passes(2, "2001:db8::2"), 1, "one /64 is one client");
    assert_eq!(asked.passes(2, "2001:db8:0:1::1"), 1);

    let asked = Asked::new(&[LimitKey::Path], 1, 100);
    let paths = ["/a", "/%61", "/b", "/x/../b", "/a"];
    assert_eq!(
        paths.map(|path| asked.take("192.0.2.1", path, None).is_ok()),
        [true, false, true, false, false]
    );

    let asked = Asked::new(&[LimitKey::Header("x-key".into())], 1, 100);
    let keys = [Some("1"), Some("2"), Some("1"), None, Some(""), None];
    assert_eq!(
        keys.map(|key| asked.take("192.0.2.1", "/", key).is_ok()),
        [true, true, false, true, true, false]
    );
}

#[test]
fn a_crowd_of_addresses_costs_bounded_memory_and_does_not_lift_the_limit() {
    const KEYS: u32 = 160;
    let asked = Asked::new(&[LimitKey::Client], 1, KEYS);
    let address = |n: u32| format!("10.0.{}.{}", n / 256, n % 256);
    let passed = (0..10_000).filter(|n| asked.take(&address(*n), "/", None).is_ok()).count();
    assert!(asked.bucket.governor.len() <= KEYS as usize);
    assert!(
        (KEYS as usize..=KEYS as usize + 1).contains(&passed),
        "{passed}: those with room, and one of the crowd"
    );
    assert_eq!(asked.crowded(), 10_000 - u64::from(KEYS));

    // Those that were silent make room again.
    asked.clock.advance(Duration::from_secs(2));
    assert!(asked.take("10.9.9.9", "/", None).is_ok());
    assert!(asked.bucket.governor.len() < 10, "{}", asked.bucket.governor.len());
    let later = asked.crowded();
    // Few enough that no table of the sixteen is full by chance: keys are spread by a secret.
    assert!((0..8).all(|n| asked.take(&address(n), "/", None).is_ok()));
    assert_eq!(asked.crowded(), later);
}

#[test]
fn who_is_known_keeps_his_own_rate_in_a_crowd() {
    let asked = Asked::new(&[LimitKey::Client], 1, 16);
    assert!(asked.take("192.0.2.1", "/", None).is_ok());
    for n in 0..1000 {
        asked.clock.advance(Duration::from_millis(10));
        let _ = asked.take(&format!("10.0.{}.{}", n / 256, n % 256), "/", None);
        if n % 10 == 9 {
            assert!(asked.take("192.0.2.1", "/", None).is_ok(), "{n}");
        }
    }
}

#[test]
fn the_wait_is_told_in_whole_seconds_never_none() {
    for (wait, told) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (1_800_000, 1800)] {
        assert_eq!(whole_seconds(Duration::from_millis(wait)), told, "{wait}");
    }
}
