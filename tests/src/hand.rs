//! What an operator types, and what the agent's socket says to whom.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{World, host, http::Answer};

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Its standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// # Panics
    /// If it failed.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// # Panics
    /// If it did not end with this code and a reason that holds this text.
    #[track_caller]
    pub fn failed(self, code: i32, why: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(why), "{why:?} is not said: {self:?}");
        self
    }
}

impl World {
    /// Runs `weir` with these arguments and this world's configuration, without a terminal, to its end.
    pub fn hand(&self, args: &[&str]) -> Said {
        run(&self.folder().join("weir.toml"), args)
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("agent.sock")
    }
}

/// The same with this configuration, for a thread that has no world.
pub fn run(conf: &Path, args: &[&str]) -> Said {
    let output = Command::new(host::weir())
        .args(args)
        .arg("--config")
        .arg(conf)
        .stdin(Stdio::null())
        .output()
        .expect("weir starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A request to an agent's socket: a POST of `content`, or a GET if there is none.
pub fn ask(socket: &Path, page: &str, content: Option<&str>) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    let method = if content.is_some() { "POST" } else { "GET" };
    let content = content.unwrap_or_default();
    let request = format!(
        "{method} {page} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{content}",
        content.len()
    );
    match stream.write_all(request.as_bytes()) {
        // Who may not ask is answered before he has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Answer::read(&mut io::BufReader::new(stream))
}
