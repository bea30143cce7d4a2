use super::*;
use crate::support::mmdb::database;

fn at(countries: &Countries, address: &str) -> Option<String> {
    countries.of(address.parse().expect("an address"))
}

#[test]
fn an_address_has_the_country_of_the_database_or_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.mmdb");
    fs::write(&path, database(&[("192.0.2.0", 24, "AT"), ("2001:db8::", 32, "CH")])).expect("written");
    let countries = Countries::load(&path, None).expect("loads");
    assert_eq!(at(&countries, "192.0.2.7").as_deref(), Some("AT"));
    assert_eq!(at(&countries, "2001:db8:1::7").as_deref(), Some("CH"));
    assert_eq!(at(&countries, "192.0.3.7"), None);

    let again = Countries::load(&path, Some(&countries)).expect("loads");
    assert!(Arc::ptr_eq(&again.reader, &countries.reader), "an unchanged file is not read again");
    let newer = dir.path().join("b.mmdb");
    fs::write(&newer, database(&[("192.0.2.0", 24, "DE")])).expect("written");
    fs::rename(&newer, &path).expect("renamed");
    let changed = Countries::load(&path, Some(&countries)).expect("loads");
    assert_eq!(at(&changed, "192.0.2.7").as_deref(), Some("DE"));
}

#[test]
fn a_fault_names_the_file_and_a_broken_database_breaks_no_request() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.mmdb");
    let error = |path| Countries::load(path, None).map(|_| ()).expect_err("a fault").to_string();
    assert!(error(&path).contains("a.mmdb"));
    fs::write(&path, "not a database").expect("written");
    assert!(error(&path).contains("a.mmdb is no MaxMind database"));

    let mut bytes = database(&[("192.0.2.0", 24, "AT")]);
    // The first byte of the data: a type that there is not.
    let data = bytes.windows(7).position(|window| window == b"country").expect("there") - 2;
    bytes[data] = 0;
    bytes[data + 1] = 0xff;
    fs::write(&path, bytes).expect("written");
    assert_eq!(at(&Countries::load(&path, None).expect("loads"), "192.0.2.7"), None);
}
