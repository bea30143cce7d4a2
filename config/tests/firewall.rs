//! The firewall's page against the code, and what it promises of files.

use std::{fs, path::Path};

use weir_config::{Config, FUNCTIONS, Managed, ManagedMode, Uninspected, VARIABLES};

const PAGE: &str = include_str!("../../docs/firewall.md");
const BASE: &str = "[proxy]\nhttp = [\"0.0.0.0:80\"]\n[plans.free]\nguideline = 1\n";

fn error(toml: &str, folder: &Path) -> String {
    Config::parse(&format!("{BASE}{toml}"), folder).expect_err(toml).to_string()
}

#[test]
fn every_example_of_the_page_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("GeoLite2-Country.mmdb"), "").unwrap();
    fs::create_dir_all(folder.path().join("crs/rules")).unwrap();
    fs::write(folder.path().join("crs/crs-setup.conf"), "").unwrap();
    fs::write(folder.path().join("crs/rules/1.conf"), "").unwrap();
    let blocks: Vec<_> =
        PAGE.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(blocks.len() >= 4);
    for block in blocks {
        let config = Config::parse(&format!("{BASE}{block}"), folder.path());
        let config = config.unwrap_or_else(|error| panic!("{error}\n{block}"));
        let rules = &config.firewall.rules;
        let lists = [rules.access.len(), rules.custom.len(), rules.limits.len(), rules.managed.rules.len()];
        assert!(lists.iter().any(|list| *list > 0), "{block}");
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

const ZONE: &str = "[[zones]]\nname = \"a.test\"\nplan = \"free\"\norigin = \"ws://127.0.0.1:1\"\n";

/// A folder with rules, and what lies beside them.
fn rules() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("rules")).expect("a folder");
    for file in [
        "setup.conf",
        "rules/2.conf",
        "rules/10.conf",
        "rules/words.data",
        "rules/.hidden.conf",
        "rules/README",
    ] {
        fs::write(folder.path().join(file), "").expect("a folder");
    }
    folder
}

fn managed(host: &str, zone: &str) -> (tempfile::TempDir, Managed, Config) {
    let folder = rules();
    let config = Config::parse(&format!("{BASE}{host}\n{ZONE}{zone}\n"), folder.path());
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let managed = Managed::clone(&config.zones[0].firewall.managed);
    (folder, managed, config)
}

#[test]
fn managed_rules_are_files_by_name_and_what_is_beside_them_is_watched() {
    let host = "[firewall.managed]\nrules = [\"setup.conf\", \"rules/*.conf\"]";
    let (folder, managed, config) = managed(host, "");
    let path = |name: &str| folder.path().join(name);
    assert_eq!(*managed.rules, [path("setup.conf"), path("rules/10.conf"), path("rules/2.conf")]);
    assert!(managed.files.contains(&path("rules/words.data")));
    assert!(
        config.sources.contains(&path("rules/words.data")) && !config.sources.contains(&path("rules/README"))
    );
    for (rules, fault) in [
        ("[\"none.conf\"]", "none.conf cannot be read"),
        ("[\"none/*.conf\"]", "none cannot be read"),
        ("[\"rules/*.rules\"]", "no file fits "),
        ("[\"rules\"]", "is not a file"),
        ("[]", "`rules` names no file"),
    ] {
        let toml = format!("[firewall.managed]\nrules = {rules}\n");
        let error = error(&toml, folder.path());
        assert!(error.contains("weir.toml:6:") && error.contains(fault), "{error}");
    }
}

#[test]
fn a_zone_has_the_hosts_managed_rules_where_it_says_nothing_else() {
    const HOST: &str = "[firewall.managed]\nrules = [\"setup.conf\"]\n";
    let mode = |host: &str, zone: &str| managed(host, zone).1.mode;
    assert_eq!(mode("", ""), ManagedMode::Off);
    assert_eq!(mode(HOST, ""), ManagedMode::Detect, "named rules are asked, and refuse nobody");
    assert_eq!(mode(HOST, "firewall.managed.mode = \"block\""), ManagedMode::Block);
    assert_eq!(mode(HOST, "firewall.managed.mode = \"off\""), ManagedMode::Off);
    let off = format!("{HOST}mode = \"off\"");
    assert_eq!(mode(&off, "firewall.managed.uninspected = \"pass\""), ManagedMode::Off);
    assert_eq!(mode("", "firewall.managed.rules = [\"rules/2.conf\"]"), ManagedMode::Detect);

    let blocks = format!("{HOST}mode = \"block\"\nuninspected = \"pass\"");
    let (folder, own, _) = managed(&blocks, "firewall.managed.rules = [\"rules/2.conf\"]");
    assert_eq!(*own.rules, [folder.path().join("rules/2.conf")], "in the place of the host's");
    assert_eq!((own.mode, own.uninspected), (ManagedMode::Block, Uninspected::Pass));
    assert_eq!(managed(HOST, "").1.uninspected, Uninspected::Refuse);

    let error = error(&format!("{ZONE}firewall.managed.mode = \"block\"\n"), folder.path());
    assert!(error.contains("managed rules are to be asked, and there are none"), "{error}");
}

#[test]
fn different_lists_of_managed_rules_are_bounded() {
    let folder = rules();
    let zones = |lists: usize| {
        (0..40).fold(BASE.to_owned(), |text, n| {
            let zone = ZONE.replace("a.test", &format!("z{n}.test"));
            let list = vec!["\"setup.conf\""; 1 + n % lists].join(",");
            format!("{text}{zone}firewall.managed.rules = [{list}]\n")
        })
    };
    Config::parse(&zones(16), folder.path()).unwrap();
    let error = Config::parse(&zones(17), folder.path()).unwrap_err().to_string();
    assert!(error.contains("more than 16 different lists"), "{error}");
}
