//! The firewall's page against the code, and what it promises of files.

use std::{fs, path::Path};

use weir_config::{Config, FUNCTIONS, VARIABLES};

const PAGE: &str = include_str!("../../docs/firewall.md");
const BASE: &str = "[proxy]\nhttp = [\"0.0.0.0:80\"]\n[plans.free]\nguideline = 1\n";

fn error(toml: &str, folder: &Path) -> String {
    Config::parse(&format!("{BASE}{toml}"), folder).expect_err(toml).to_string()
}

#[test]
fn every_example_of_the_page_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("GeoLite2-Country.mmdb"), "").unwrap();
    let blocks: Vec<_> =
        PAGE.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(blocks.len() >= 4);
    for block in blocks {
        let config = Config::parse(&format!("{BASE}{block}"), folder.path());
        let config = config.unwrap_or_else(|error| panic!("{error}\n{block}"));
        let rules = &config.firewall.rules;
        assert!(!rules.access.is_empty() || !rules.custom.is_empty() || !rules.limits.is_empty(), "{block}");
    }
}

#[test]
fn the_page_names_every_variable_and_function() {
    for name in VARIABLES.iter().chain(&FUNCTIONS) {
        assert!(PAGE.contains(&format!("`{name}`")), "docs/firewall.md says nothing of {name}");
    }
}

#[test]
fn a_list_of_networks_is_a_file_with_comments_whose_faults_have_places() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    let rule = "[[firewall.access]]\nid = \"a\"\naction = \"deny\"\nnetworks = [\"10.0.0.0/8\"]\nfile = \"list.txt\"\n";
    fs::write(&list, "# nets\n\n192.0.2.0/24 ; SBL1\r\n  2001:db8::1\n").unwrap();
    let config = Config::parse(&format!("{BASE}{rule}"), folder.path()).unwrap();
    let mut found: Vec<_> =
        config.firewall.rules.access[0].networks.iter().map(ToString::to_string).collect();
    found.sort();
    assert_eq!(found, ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::1/128"]);
    assert_eq!(config.sources, std::slice::from_ref(&list), "the file is watched");

    fs::write(&list, "192.0.2.0/24\n  192.0.2.1/24\n::ffff:1.2.3.0/120\nx\n").unwrap();
    let error = error(rule, folder.path());
    for place in
        ["list.txt:2:3: \"192.0.2.1/24\" has bits set", "list.txt:3:1: ", "list.txt:4:1: \"x\" is no network"]
    {
        assert!(error.contains(place), "{error}");
    }
    fs::remove_file(&list).unwrap();
    let missing = Config::parse(&format!("{BASE}{rule}"), folder.path()).unwrap_err().to_string();
    assert!(missing.contains("list.txt:1:1: the file cannot be read"), "{missing}");
}

#[test]
fn a_thousand_rules_are_too_many() {
    let rules: String = (0..257)
        .map(|n| format!("[[firewall.rules]]\nid = \"{n}\"\nwhen = \"true\"\naction = \"log\"\n"))
        .collect();
    assert!(error(&rules, Path::new("/")).contains("`rules` has 257 rules, more than 256"));
}
