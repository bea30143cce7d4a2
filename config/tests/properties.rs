//! What holds for every input.

use std::path::Path;

use proptest::prelude::*;
use weir_config::{Config, HostIndex, HostPattern, normalise_host};

/// Names of few labels out of few, so that they meet.
fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "x-1"]), 1..5)
        .prop_map(|labels| labels.join("."))
}

/// Text that is TOML more often than chance would have it.
fn toml() -> impl Strategy<Value = String> {
    let words = vec![
        "[proxy]\n",
        "http",
        "https",
        " = ",
        "[\"0.0.0.0:80\"]",
        "\n",
        "[plans.free]\n",
        "[plans]\n",
        "guideline",
        "500",
        "-1",
        "abuse_cap",
        "[[zones]]\n",
        "[zones]\n",
        "name",
        "\"a\"",
        "\"*.ä\"",
        "hosts",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "plan",
        "\"free\"",
        "origin",
        "\"ws://[::1]:1\"",
        "\"ws://\"",
        "tls",
        "cert",
        "key",
        "instance",
        "[agent]\n",
        "max_zones",
        "retry_after",
        "\"1s\"",
        "\"\"",
        "1.5",
        "true",
        "1979-05-27",
        "'",
        "\"\"\"",
        "\u{feff}",
        "\r\n",
        "é",
    ];
    prop::collection::vec(prop::sample::select(words), 0..60).prop_map(|words| words.concat())
}

/// The zone of a host by the definition: exact, then the wildcard with the most labels.
fn naive(zones: &[(String, Vec<String>)], host: &str) -> Option<String> {
    let all = || zones.iter().flat_map(|(zone, hosts)| hosts.iter().map(move |host| (zone, host)));
    let exact = all().find(|(_, pattern)| *pattern == host);
    let below = |pattern: &str| pattern.strip_prefix('*').is_some_and(|parent| host.ends_with(parent));
    let wildcard = || all().filter(|(_, pattern)| below(pattern)).max_by_key(|(_, pattern)| pattern.len());
    exact.or_else(wildcard).map(|(zone, _)| zone.clone())
}

proptest! {
    #[test]
    fn no_text_makes_the_check_panic(text in any::<String>()) {
        if let Err(error) = Config::parse(&text, Path::new("/etc/weir")) {
            prop_assert!(!error.faults.is_empty());
        }
    }

    #[test]
    fn no_near_toml_makes_the_check_panic(text in toml()) {
        if let Err(error) = Config::parse(&text, Path::new("/etc/weir")) {
            let lines = text.split('\n').collect::<Vec<_>>();
            for fault in error.faults {
                prop_assert!(!fault.message.contains('\n') && !fault.remedy.contains('\n'));
                let line = lines.get(fault.line - 1).map(|line| line.chars().count());
                prop_assert!(line.is_some_and(|chars| (1..=chars + 1).contains(&fault.column)), "{fault} in {text:?}");
            }
        }
    }

    #[test]
    fn the_index_finds_what_the_definition_says(
        patterns in prop::collection::btree_map((any::<bool>(), name()), 0..4_u8, 0..12),
        hosts in prop::collection::vec(name(), 1..20),
    ) {
        let mut zones: Vec<(String, Vec<String>)> = (0..4).map(|i| (format!("zone{i}"), Vec::new())).collect();
        for ((wildcard, name), zone) in patterns {
            zones[usize::from(zone)].1.push(if wildcard { format!("*.{name}") } else { name });
        }
        zones.retain(|(_, hosts)| !hosts.is_empty());
        let mut text = "[proxy]\nhttp = [\"0.0.0.0:80\"]\n[plans.p]\nguideline = 1\n".to_owned();
        for (zone, hosts) in &zones {
            text += &format!("[[zones]]\nname = \"{zone}\"\nhosts = {hosts:?}\nplan = \"p\"\norigin = \"ws://o\"\n");
        }
        let config = Config::parse(&text, Path::new("/etc/weir")).unwrap();
        let index = HostIndex::new(&config.zones);
        for host in hosts {
            let found = index.lookup(&host).map(|zone| zone.name.to_string());
            prop_assert_eq!(&found, &naive(&zones, &host));
            let written = format!("{}.:443", host.to_uppercase());
            prop_assert_eq!(index.lookup(&written).map(|zone| zone.name.to_string()), found);
        }
    }

    #[test]
    fn a_normalised_host_is_normal(host in prop_oneof!["\\PC{0,40}", "[aA.:\\[\\]0-9f-]{0,20}", name()]) {
        if let Some(normal) = normalise_host(&host) {
            prop_assert_eq!(normalise_host(&normal), Some(normal.clone()));
            prop_assert!(!normal.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_whitespace()));
        }
    }
}

#[test]
fn a_wildcard_does_not_cover_its_own_name() {
    let text = "[proxy]\nhttp = [\"0.0.0.0:80\"]\n[plans.p]\nguideline = 1\n\
        [[zones]]\nname = \"w\"\nhosts = [\"*.a.b\"]\nplan = \"p\"\norigin = \"ws://o\"\n";
    let config = Config::parse(text, Path::new("/etc/weir")).unwrap();
    assert_eq!(config.zones[0].hosts, [HostPattern::Wildcard("a.b".into())]);
    let index = HostIndex::new(&config.zones);
    assert!(
        index.lookup("x.y.a.b").is_some() && index.lookup("a.b").is_none() && index.lookup("xa.b").is_none()
    );
}
