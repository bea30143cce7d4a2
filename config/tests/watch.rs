//! What a watch notices. Each wait is for the notice itself and ends with the test's failure.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails, in helpers too")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use tempfile::TempDir;
use weir_config::{Config, Watch, watch};

/// Longer than any burst on a busy machine.
const BOUND: Duration = Duration::from_secs(20);
/// Longer than the quiet time that ends a burst.
const SILENCE: Duration = Duration::from_millis(1500);

const MAIN: &str = "zones_dir = \"zones.d\"\n[proxy]\nhttp = [\"127.0.0.1:8080\"]\n";

struct Watched {
    folder: TempDir,
    notices: Receiver<()>,
    _watch: Watch,
}

impl Watched {
    /// Watches `weir.toml` in a folder that `prepare` has filled.
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let main = folder.path().join("weir.toml");
        let config = Config::load(&main).unwrap();
        let (noticed, notices) = channel();
        let watch = watch(&config, &main, move || noticed.send(()).unwrap()).unwrap();
        Self { folder, notices, _watch: watch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    #[track_caller]
    fn noticed_once(&self) {
        self.notices.recv_timeout(BOUND).expect("the change was not noticed");
        self.silent();
    }

    #[track_caller]
    fn silent(&self) {
        assert!(self.notices.recv_timeout(SILENCE).is_err(), "noticed without a change");
    }
}

fn plain(folder: &Path) {
    fs::create_dir(folder.join("zones.d")).unwrap();
    fs::write(folder.join("weir.toml"), MAIN).unwrap();
}

#[test]
fn a_file_renamed_over_the_configuration_is_noticed() {
    let watched = Watched::new(plain);
    for i in 0..2 {
        fs::write(watched.path("weir.toml.new"), format!("{MAIN}# {i}\n")).unwrap();
        fs::rename(watched.path("weir.toml.new"), watched.path("weir.toml")).unwrap();
        watched.noticed_once();
    }
}

#[test]
fn zone_files_that_come_and_go_are_noticed_as_one_burst() {
    let watched = Watched::new(plain);
    for i in 0..20 {
        fs::write(watched.path(&format!("zones.d/{i}.toml")), "").unwrap();
    }
    watched.noticed_once();
    fs::remove_file(watched.path("zones.d/7.toml")).unwrap();
    watched.noticed_once();
}

#[test]
fn reading_and_other_files_are_no_change() {
    let watched = Watched::new(plain);
    Config::load(&watched.path("weir.toml")).unwrap();
    fs::write(watched.path("ledger.db"), "x").unwrap();
    fs::write(watched.path("zones.d/.x.toml"), "x").unwrap();
    watched.silent();
    fs::rename(watched.path("zones.d/.x.toml"), watched.path("zones.d/x.toml")).unwrap();
    watched.noticed_once();
}

#[test]
fn a_zone_folder_that_is_replaced_is_followed() {
    let watched = Watched::new(plain);
    fs::rename(watched.path("zones.d"), watched.path("old")).unwrap();
    fs::create_dir(watched.path("zones.d")).unwrap();
    fs::write(watched.path("zones.d/a.toml"), "").unwrap();
    watched.noticed_once();
    fs::write(watched.path("zones.d/b.toml"), "").unwrap();
    watched.noticed_once();
    fs::write(watched.path("old/c.toml"), "").unwrap();
    watched.silent();
}

#[test]
fn a_config_map_that_turns_its_link_is_noticed() {
    let version = |folder: &Path, name: &str, text: &str| {
        fs::create_dir_all(folder.join(name).join("zones.d")).unwrap();
        fs::write(folder.join(name).join("weir.toml"), text).unwrap();
        symlink(name, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    let watched = Watched::new(|folder| {
        version(folder, "..1", MAIN);
        symlink("..data/weir.toml", folder.join("weir.toml")).unwrap();
        symlink("..data/zones.d", folder.join("zones.d")).unwrap();
    });
    for name in ["..2", "..3"] {
        version(watched.folder.path(), name, &format!("{MAIN}# {name}\n"));
        watched.noticed_once();
    }
    fs::write(watched.path("..3/zones.d/a.toml"), "").unwrap();
    watched.noticed_once();
}

#[test]
fn the_files_of_certificates_are_watched_wherever_they_lie() {
    let watched = Watched::new(|folder| {
        fs::create_dir(folder.join("zones.d")).unwrap();
        fs::create_dir(folder.join("certs")).unwrap();
        for name in ["certs/a.pem", "certs/a.key", "zones.d/b.pem", "zones.d/b.key"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let zone = "[[zones]]\nname = \"b\"\nplan = \"p\"\norigin = \"ws://127.0.0.1\"\n\
                    tls = { cert = \"b.pem\", key = \"b.key\" }\n";
        fs::write(folder.join("zones.d/b.toml"), zone).unwrap();
        let default =
            "default_tls = { cert = \"certs/a.pem\", key = \"certs/a.key\" }\n[plans.p]\nguideline = 1\n";
        fs::write(folder.join("weir.toml"), format!("{MAIN}{default}")).unwrap();
    });
    // The last two are not there yet.
    for name in ["certs/a.pem", "zones.d/b.key", "certs/a.pem.ocsp", "zones.d/b.pem.ocsp"] {
        fs::write(watched.path(name), "new").unwrap();
        watched.noticed_once();
    }
    fs::write(watched.path("certs/other.pem"), "new").unwrap();
    watched.silent();
}

#[test]
fn a_dropped_watch_is_silent() {
    let Watched { folder, notices, _watch } = Watched::new(plain);
    drop(_watch);
    fs::write(folder.path().join("weir.toml"), "").unwrap();
    assert!(
        notices
            .recv_timeout(BOUND)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
}
