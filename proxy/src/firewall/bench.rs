//! What a request pays, in nanoseconds: `cargo test -p weir-proxy --release -- --ignored --nocapture what_a_request_pays`.

use std::{fmt::Write as _, hint::black_box, time::Instant};

use http::{HeaderMap, HeaderValue, Method, Version};
use weir_config::Config;

use super::*;
use crate::firewall::facts::WorkedOut;

const ROUNDS: u32 = 20_000;

fn measure(what: &str, rules: &str) {
    let text = format!("[proxy]\nhttp = [\"127.0.0.1:80\"]\n{rules}");
    let config = Config::parse(&text, std::path::Path::new("/")).unwrap_or_else(|error| panic!("{error}"));
    let firewall = Firewall::build(
        &config.firewall,
        None,
        &mut Shared { interned: Interned::default(), sets: Sets::after(None) },
    )
    .expect("built");
    let mut headers = HeaderMap::new();
    for n in 0..15 {
        let name = http::HeaderName::from_bytes(format!("x-header-{n}").as_bytes()).expect("a name");
        headers.insert(name, HeaderValue::from_static("some value of everyday"));
    }
    let zone = Rules::default();
    let started = Instant::now();
    for _ in 0..ROUNDS {
        let facts = Facts {
            method: &Method::GET,
            raw_path: "/chat/room/7",
            query: "token=abcdefgh",
            headers: &headers,
            host: "a.test",
            zone: "a.test",
            address: "192.0.2.7".parse().expect("an address"),
            tls: None,
            version: Version::HTTP_11,
            websocket: true,
            countries: None,
            worked_out: WorkedOut::default(),
        };
        black_box(firewall.check(&zone, &facts)).expect("passes");
    }
    println!("{what:<42} {:>8} ns", started.elapsed().as_nanos() / u128::from(ROUNDS));
}

fn networks(n: u32) -> String {
    let list: Vec<_> = (0..n).map(|n| format!("\"10.{}.{}.0/24\"", n / 256, n % 256)).collect();
    format!("[[firewall.access]]\nid = \"a\"\naction = \"deny\"\nnetworks = [{}]\n", list.join(","))
}

fn conditions(n: u32, when: &str) -> String {
    (0..n).fold(String::new(), |mut all, n| {
        let _ = writeln!(all, "[[firewall.rules]]\nid = \"r{n}\"\nwhen = '{when}'\naction = \"block\"");
        all
    })
}

#[test]
#[ignore = "a measurement, not a test"]
fn what_a_request_pays() {
    measure("no rule", "");
    measure("10 networks", &networks(10));
    measure("10,000 networks", &networks(10_000));
    measure("1 condition on the path", &conditions(1, "path.startsWith(\"/admin\")"));
    measure("20 conditions on the path", &conditions(20, "path.startsWith(\"/admin\")"));
    measure("1 condition with a pattern", &conditions(1, "path.matches(\"^/v[0-9]+/\")"));
    measure("1 condition on a header of 15", &conditions(1, "\"x-a\" in headers"));
    measure("20 conditions on a header of 15", &conditions(20, "\"x-a\" in headers"));
    measure("1 limit by client", "[[firewall.limits]]\nid = \"l\"\nrate = \"1000000/1s\"\n");
}
