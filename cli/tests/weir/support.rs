//! The built `weir`, and folders with configurations.

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
};

use tempfile::TempDir;

/// `weir` with these arguments, not started. What the environment says of logs and colours does not reach it.
pub fn weir(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).env_remove("RUST_LOG").env_remove("NO_COLOR");
    command
}

/// What `weir` says to these arguments.
pub fn output(arguments: &[&str]) -> Output {
    weir(arguments).output().expect("weir starts")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// A folder that every user may read, with a configuration.
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    pub fn new(configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("its mode");
        let this = Self { folder };
        this.write("weir.toml", configuration);
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
        fs::set_permissions(self.path(name), Permissions::from_mode(0o644)).expect("its mode");
    }

    /// The configuration's path as an argument.
    pub fn config(&self) -> String {
        self.path("weir.toml").to_str().expect("UTF-8").to_owned()
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

/// A configuration with one zone that needs no agent. `more` goes to the end.
pub fn configuration(http: u16, admin: u16, more: &str) -> String {
    let proxy_admin = free_port();
    format!(
        "[proxy]\nhttp = [\"127.0.0.1:{http}\"]\nadmin = \"127.0.0.1:{proxy_admin}\"\naccounting = \"optional\"\ndrain_timeout = \"1s\"\n\
         [agent]\nadmin = \"127.0.0.1:{admin}\"\n\
         [plans.free]\nguideline = 5\n\
         [[zones]]\nname = \"a.example\"\nplan = \"free\"\norigin = \"ws://127.0.0.1:1\"\n{more}"
    )
}
