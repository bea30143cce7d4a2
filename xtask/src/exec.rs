//! Running other programs: steps that show their progress, questions whose answer is read, and cargo.
//!
//! A step prints its title, then the program's output dimmed and indented, then the time it took. Everything
//! of ours goes to stderr, so stdout stays the called program's.

use std::{
    env,
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

/// Runs a program as a step, with its output shown as it comes.
///
/// # Errors
/// If it cannot be started or does not succeed; the error names the command line.
pub fn step(title: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    let (dim, plain) = colours();
    eprintln!("==> {title}");

    let (output, sink) = io::pipe().context("cannot create a pipe")?;
    let line = command_line(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(sink.try_clone().context("cannot share a pipe")?)
        .stderr(sink)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    // The command holds our copies of the writing end; with them open the reading would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    for text in BufReader::new(output).split(b'\n') {
        let text = text.context("cannot read a program's output")?;
        let text = String::from_utf8_lossy(&text);
        // A progress bar rewrites its line; only what it said last is kept.
        let shown = text.trim_end().rsplit('\r').next().unwrap_or_default();
        eprintln!("    {dim}{shown}{plain}");
    }
    let status = child.wait().with_context(|| format!("lost `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    eprintln!("    done in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a program quietly and returns its stdout.
///
/// # Errors
/// If it cannot be started or does not succeed; the error has the command line and the program's stderr.
pub fn answer(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed ({}):\n{}", output.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program starts and succeeds; what it says is of no interest.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Another program's verdict as our own; a program that a signal ended counts as failed.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The cargo that started us.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The same cargo, in weir's workspace.
pub fn workspace_cargo() -> Command {
    let mut command = cargo();
    command.current_dir(workspace());
    command
}

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The path of a program that cargo builds: beside the folder of this one, wherever the target directory is.
///
/// # Errors
/// If this program's own path is unknown.
pub fn built(profile: &str, program: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("the path of this program is unknown")?;
    let target =
        own.ancestors().nth(2).with_context(|| format!("{} is not in a target directory", own.display()))?;
    Ok(target.join(profile).join(program))
}

/// The full path of a program on `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Reads a small file, if it is there.
///
/// # Errors
/// If it is there and cannot be read.
pub fn read_if_there(path: &Path) -> Result<Option<String>> {
    let mut text = String::new();
    match std::fs::File::open(path) {
        Ok(mut file) => file
            .read_to_string(&mut text)
            .map(|_| Some(text))
            .with_context(|| format!("cannot read {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot open {}", path.display())),
    }
}

/// The command as a shell would take it, with words of blanks or specials quoted.
pub fn command_line(command: &Command) -> String {
    let mut line = String::new();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    for (index, word) in words.enumerate() {
        let word = word.to_string_lossy();
        let simple = |c: char| c.is_ascii_alphanumeric() || "-_./:=+~,@%".contains(c);
        let space = if index == 0 { "" } else { " " };
        let _ = if !word.is_empty() && word.chars().all(simple) {
            write!(line, "{space}{word}")
        } else {
            write!(line, "{space}'{}'", word.replace('\'', r"'\''"))
        };
    }
    line
}

fn colours() -> (&'static str, &'static str) {
    if io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
        ("\x1b[2m", "\x1b[0m")
    } else {
        ("", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        let mut command = Command::new("apt-get");
        command.args(["install", "rustc-web=1.96.0+dfsg1-1~deb12u2", "it's", ""]);
        assert_eq!(command_line(&command), r"apt-get install rustc-web=1.96.0+dfsg1-1~deb12u2 'it'\''s' ''");
    }

    #[test]
    fn a_failing_step_names_its_command() {
        let error = step("fail", Command::new("sh").args(["-c", "exit 3"])).expect_err("an error");
        let error = error.to_string();
        assert!(error.contains("sh -c 'exit 3'") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_failing_question_tells_what_the_program_said() {
        let asked = answer(Command::new("sh").args(["-c", "echo no such thing >&2; exit 1"]));
        let error = asked.expect_err("an error").to_string();
        assert!(error.contains("no such thing"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_does_not_succeed() {
        assert!(!succeeds(&mut Command::new("/nonexistent/program")));
    }
}
