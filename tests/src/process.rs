//! Processes that a test starts, each killed by its handle when the test is through.
//!
//! They are started by way of the helper, which asks the kernel to kill them should the test's thread die without a word, and
//! then becomes them. So they have to be started on the thread that runs the test.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{eventually, host};

/// A running process, or one that ended and can be asked how.
pub struct Process {
    name: String,
    child: Child,
    /// Where its standard error goes.
    log: PathBuf,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a program. Its standard error goes to a file in `folder`.
    pub fn start<'a>(
        folder: &Path,
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let stderr = File::options().create(true).append(true).open(&log).expect("a log file");
        let mut child = Command::new(host::helper())
            .arg("become")
            .arg(program)
            .args(args)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Self { name: name.to_owned(), child, log, stdin, stdout }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it wrote to its standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal)
            .unwrap_or_else(|error| panic!("{} cannot be sent {signal}: {error}", self.name));
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        eventually(&format!("the end of {name}"), limit, || self.ended().ok_or_else(|| "it runs".to_owned()))
    }

    /// Sends a line to its standard input.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its standard input is open");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("{} does not listen: {error}", self.name));
    }

    /// The next line of its standard output.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().expect("its standard output is open");
        let read = stdout.read_line(&mut line);
        assert!(
            read.is_ok_and(|bytes| bytes > 0),
            "{} said nothing more; its log:\n{}",
            self.name,
            self.log()
        );
        line.trim_end().to_owned()
    }

    /// Every further line of its standard output, read as soon as it is said: whoever says much waits for nobody.
    pub fn lines(&mut self) -> Receiver<String> {
        let stdout = self.stdout.take().expect("its standard output is open");
        let (sender, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        lines
    }

    /// # Panics
    /// If it has ended.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended ({status}); its log:\n{}", self.name, self.log());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- the end of the log of {}:\n{tail}\n---", self.name);
        }
    }
}
