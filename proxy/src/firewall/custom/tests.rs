use http::{HeaderMap, HeaderValue, Method, Version};
use weir_config::Config;

use super::*;
use crate::firewall::facts::{TlsFacts, WorkedOut};

/// Rules of a host, as they are configured.
fn rules(toml: &str) -> CustomRules {
    let text = format!(
        "[proxy]\nhttp = [\"127.0.0.1:80\"]\n{toml}\n[plans.p]\nguideline = 1\n[[zones]]\nname = \"a.test\"\nplan = \"p\"\norigin = \"ws://127.0.0.1:1\"\n"
    );
    let config = Config::parse(&text, std::path::Path::new("/")).unwrap_or_else(|error| panic!("{error}"));
    CustomRules::build(&config.firewall.rules.custom, None)
}

fn rule(when: &str, more: &str) -> CustomRules {
    rules(&format!("[[firewall.rules]]\nid = \"r\"\nwhen = '''{when}'''\n{more}"))
}

/// Hands a request with these headers to `ask`.
fn with<R>(headers: &[(&'static str, &'static [u8])], ask: impl FnOnce(&Facts<'_>) -> R) -> R {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_bytes(value).expect("a value"));
    }
    let tls = TlsFacts { version: "1.3", sni: "a.test".into() };
    ask(&Facts {
        method: &Method::GET,
        raw_path: "/Ch%61t/../chat/v1",
        query: "q=1%20UNION+select&x",
        headers: &map,
        host: "a.test",
        zone: "a.test",
        address: "192.0.2.7".parse().expect("an address"),
        tls: Some(&tls),
        version: Version::HTTP_11,
        websocket: true,
        countries: None,
        worked_out: WorkedOut::default(),
    })
}

fn outcome(rules: &CustomRules, headers: &[(&'static str, &'static [u8])]) -> Result<(), Block> {
    with(headers, |facts| rules.check(facts))
}

/// What all rules together have counted.
fn count(rules: &CustomRules, outcome: &str) -> u64 {
    let counts = rules.counts().flat_map(|(stage, id, counts)| counts.read(None, stage, id));
    counts.filter(|count| count.outcome == outcome).map(|count| count.n).sum()
}

fn holds(when: &str) -> bool {
    let rules = rule(when, "action = \"block\"");
    let blocked = outcome(&rules, &[("x-a", b"1"), ("x-a", b"\xffb"), ("user-agent", b"curl/8")]).is_err();
    assert_eq!(count(&rules, "failed"), 0, "{when}");
    blocked
}

#[test]
fn conditions_see_every_part_of_the_request() {
    for when in [
        "method == 'GET'",
        "path == '/chat/v1' && raw_path == '/Ch%61t/../chat/v1'",
        "query == 'q=1%20UNION+select&x'",
        "decode(query).matches('(?i)union select')",
        "matches(path, '^/chat/v[0-9]$')",
        "host == 'a.test' && zone == 'a.test' && sni == 'a.test'",
        "client_ip == '192.0.2.7' && in_network(client_ip, '192.0.2.0/24')",
        "!in_network(client_ip, '10.0.0.0/8') && !in_network('no address', '10.0.0.0/8')",
        "in_network('::1', '::/127')",
        "tls_version == '1.3' && http_version == '1.1' && websocket",
        "headers['x-a'] == '1, \u{fffd}b' && headers['user-agent'].startsWith('curl')",
        "'x-a' in headers && !('x-b' in headers) && has(headers.x) == false",
        "headers.exists(name, name.endsWith('agent')) && size(headers) == 2",
        "lower('ÄB') == 'äb' && string(size(path)) == '8' && int('7') == 7",
    ] {
        assert!(holds(when), "{when}");
    }
    for when in ["method == 'POST'", "path.contains('..')", "in_network(client_ip, '192.0.3.0/24')"] {
        assert!(!holds(when), "{when}");
    }
}

#[test]
fn the_first_rule_that_allows_or_blocks_decides() {
    let rules = rules(
        "[[firewall.rules]]\nid = \"note\"\nwhen = \"true\"\naction = \"log\"\n\
         [[firewall.rules]]\nid = \"own\"\nwhen = \"client_ip == '192.0.2.7'\"\naction = \"allow\"\n\
         [[firewall.rules]]\nid = \"all\"\nwhen = \"true\"\naction = \"block\"\n",
    );
    assert!(outcome(&rules, &[]).is_ok());
    let moved = rules
        .counts()
        .flat_map(|(stage, id, counts)| counts.read(None, stage, id))
        .filter(|count| count.n > 0);
    let moved: Vec<_> = moved.map(|count| (count.rule.to_string(), count.outcome, count.n)).collect();
    assert_eq!(moved, [("note".to_owned(), "matched", 1), ("own".to_owned(), "matched", 1)]);
}

#[test]
fn a_block_says_what_the_rule_says() {
    let block = outcome(&rule("true", "action = \"block\"\nstatus = 451\nbody = \"Not here.\""), &[])
        .expect_err("blocked");
    let answer = block.answer.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.body.as_deref()), (451, Some("Not here.")));
    let block = outcome(&rule("true", "action = \"block\""), &[]).expect_err("blocked");
    assert_eq!(block.answer.expect("an answer").status, 403);
}

#[test]
fn a_condition_that_fails_is_counted_and_taken_as_on_error_says() {
    for when in ["headers['x-none'] == '1'", "headers['x-a'] < 1", "int(path) == 1", "[1][7] == 1"] {
        for (on_error, blocks) in
            [("", false), ("on_error = \"not_matched\"", false), ("on_error = \"matched\"", true)]
        {
            let rules = rule(when, &format!("action = \"block\"\n{on_error}"));
            assert_eq!(outcome(&rules, &[("x-a", b"1")]).is_err(), blocks, "{when} {on_error}");
            assert_eq!(count(&rules, "failed"), 1, "{when}");
        }
    }
}

#[test]
fn a_dry_run_counts_and_lets_pass() {
    let rules = rule("true", "action = \"block\"\ndry_run = true");
    assert!(outcome(&rules, &[]).is_ok());
    assert_eq!(["matched", "dry_run", "blocked"].map(|outcome| count(&rules, outcome)), [1, 1, 0]);
}

#[test]
fn headers_are_only_read_by_rules_that_name_them() {
    let rules = rule("path == '/chat/v1' && websocket", "action = \"log\"");
    with(&[("x-a", b"1")], |facts| {
        rules.check(facts).expect("passes");
        assert!(!facts.worked_out.has_headers());
        rule("size(headers) == 1", "action = \"block\"").check(facts).expect_err("blocked");
        assert!(facts.worked_out.has_headers());
    });
}
