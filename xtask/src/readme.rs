//! `cargo xtask readme`: the first commands of the README do what it says they do.
//!
//! The commands are taken out of the text, so that what is checked is what people read.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use xshell::{Cmd, Shell, cmd};

use crate::network::Network;
use crate::process::{Process, Stream};
use crate::programs::{self, Programs};
use crate::report::{Report, Row, progress};
use crate::{flags, steps, workspace};

/// What the lines that start a chat begin with; a nick and a room follow.
const CHAT: &str = "cargo run --release -p setowire-chat -- ";
/// What the line that starts a server begins with, before what it is to do: `serve`.
const SETOWIRE: &str = "cargo run --release -p setowire-cli -- ";
/// What the line of a chat that begins at that server ends with.
const BEGIN: &str = " --bootstrap host:";
const TEST: &str = "cargo xtask test";

/// Seconds in which two chats should meet: the second announces itself at once, and again after 5.
const MEET_GOAL: f64 = 6.0;

/// How long a chat may take to listen. It is built before, but cargo waits for whoever else builds in the folder.
const START: Duration = Duration::from_secs(300);
const MEET: Duration = Duration::from_secs(30);
const TALK: Duration = Duration::from_secs(10);
/// Leaving itself is given 2 s by the program.
const LEAVE: Duration = Duration::from_secs(10);
/// How long the tests may take in a new clone, all that they build included.
const TESTS: Duration = Duration::from_secs(90 * 60);

const NAMES: [&str; 3] = ["readme: two chats meet", "readme: they talk", "readme: they leave"];

const SERVED: [&str; 3] = ["readme: a server of one's own", "readme: two meet by it", "readme: the server ends"];

/// Runs the commands here, or in a new clone.
///
/// # Errors
/// When a file of the report or a log cannot be written.
pub(crate) fn run(flags: &flags::Readme) -> anyhow::Result<bool> {
    let mut report = Report::new(flags.json.as_deref(), true)?;
    if flags.fresh {
        fresh(&mut report)?;
    } else if flags.quick {
        if let Some(programs) = programs::append(&mut report, &workspace::shell()?)? {
            quick(&mut report, &programs)?;
        }
    } else {
        append(&mut report, &Place::here()?)?;
    }
    Ok(report.finish())
}

/// The rows of the two chats, and of a server with two others.
fn append(report: &mut Report, place: &Place) -> anyhow::Result<()> {
    if chats(report, place)? {
        served(report, place)?;
    }
    Ok(())
}

/// The same with programs that are built already, in place of those that the commands would build.
///
/// # Errors
/// As [`run`].
pub(crate) fn quick(report: &mut Report, programs: &Programs) -> anyhow::Result<()> {
    let built = [(CHAT, programs.binary("setowire-chat")), (SETOWIRE, programs.binary("setowire"))];
    append(report, &Place { built: built.into(), ..Place::here()? })
}

/// The same in a clone of the last commit, where nothing is built, and then the tests.
fn fresh(report: &mut Report) -> anyhow::Result<()> {
    let here = workspace::shell()?;
    // Not below our own folder: cargo also reads the `.cargo/config.toml` of the folders above.
    let clone = env::temp_dir().join(format!("setowire-readme-{}", std::process::id()));
    if !steps::run(report, "readme: the clone", &[], cmd!(here, "git clone --quiet . {clone}"))? {
        return Ok(());
    }
    let place = Place::apart(clone)?;
    if chats(report, &place)? && served(report, &place)? && test(report, &place)? {
        here.remove_path(&place.folder).context("cannot remove the clone")?;
    } else {
        progress(&format!("the clone is left in {}", place.folder.display()));
    }
    Ok(())
}

/// Where the commands run.
#[derive(Debug)]
struct Place {
    folder: PathBuf,
    /// Variables the commands do not get.
    unset: Vec<OsString>,
    /// Those they get otherwise than we.
    set: Vec<(OsString, OsString)>,
    /// The folder for what they print, which is always ours.
    logs: PathBuf,
    /// Beginnings of commands that build a program and run it, each with the program to run instead; the others build.
    built: Vec<(&'static str, PathBuf)>,
}

impl Place {
    /// This repository.
    fn here() -> anyhow::Result<Self> {
        let logs = workspace::root().join("target/readme/logs");
        if logs.exists() {
            fs::remove_dir_all(&logs).context("cannot remove the logs of the last run")?;
        }
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(Self { folder: workspace::root(), unset: Vec::new(), set: Vec::new(), logs, built: Vec::new() })
    }

    /// Another folder, with the environment of somebody who has just opened a terminal: without what the cargo that
    /// runs us, or whoever builds here, has told us.
    fn apart(folder: PathBuf) -> anyhow::Result<Self> {
        let unset = env::vars_os().map(|(name, _)| name).filter(|name| name.to_str().is_some_and(is_of_a_build));
        // cargo puts the folders of its build in front of it.
        let libraries = env::var_os("LD_LIBRARY_PATH").map(|paths| {
            let theirs = env::split_paths(&paths).filter(|path| !path.starts_with(workspace::root()));
            Ok::<_, env::JoinPathsError>(("LD_LIBRARY_PATH".into(), env::join_paths(theirs)?))
        });
        let set = libraries.transpose()?.into_iter().collect();
        Ok(Self { folder, unset: unset.collect(), set, ..Self::here()? })
    }

    /// A shell in the folder.
    fn shell(&self) -> anyhow::Result<Shell> {
        let sh = Shell::new()?;
        sh.change_dir(&self.folder);
        Ok(sh)
    }

    /// A command as it is to be run there.
    fn step<'a>(&self, command: Cmd<'a>) -> Cmd<'a> {
        self.unset.iter().fold(command, Cmd::env_remove).envs(self.set.iter().map(|(name, value)| (name, value)))
    }

    /// Starts a line of the README in `network`, as a shell reads it.
    fn spawn(&self, network: &Network, line: &str, name: &str) -> anyhow::Result<Process> {
        let line = self
            .built
            .iter()
            .fold(line.to_owned(), |line, (start, program)| line.replace(start, &format!("'{}' ", program.display())));
        let mut command: Command = network.command(Path::new("sh"));
        // The shell makes way for the command, so that ending the process ends the command.
        command.arg("-c").arg(format!("exec {line}")).current_dir(&self.folder);
        for name in &self.unset {
            command.env_remove(name);
        }
        command.envs(self.set.iter().map(|(name, value)| (name, value)));
        Process::spawn(command, name, &self.logs)
    }

    /// Builds what the commands would build, where it is not built; whether it did.
    fn build(&self, report: &mut Report, name: &str, package: &str) -> anyhow::Result<bool> {
        if !self.built.is_empty() {
            return Ok(true);
        }
        let sh = self.shell()?;
        steps::run(report, name, &[], self.step(cmd!(sh, "cargo build --release -p {package}")))
    }

    /// Starts a chat and waits until it listens.
    fn start(&self, network: &Network, chat: &Chat<'_>) -> anyhow::Result<Process> {
        let mut process = self.spawn(network, chat.line, chat.nick)?;
        noticed(&mut process, "listening on ", START)?;
        Ok(process)
    }

    fn readme(&self) -> anyhow::Result<String> {
        let path = self.folder.join("README.md");
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// A failure, and where to read on.
    fn failed(&self, name: &str, error: &anyhow::Error) -> Row {
        Row::failed(name, format!("{error:#}; logs in target/readme/logs"))
    }
}

/// Whether a variable is about one build, and not about where this machine has its tools and its packages from.
fn is_of_a_build(name: &str) -> bool {
    const MACHINE: [&str; 5] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    match name.strip_prefix("RUSTUP_") {
        Some(rest) => rest.starts_with("TOOLCHAIN"),
        None if name.starts_with("CARGO") => !MACHINE.iter().any(|start| name.starts_with(start)),
        None => name.starts_with("RUST"),
    }
}

/// A line that starts a chat.
#[derive(Debug, PartialEq)]
struct Chat<'t> {
    line: &'t str,
    nick: &'t str,
}

/// The two lines of the first block of commands that start chats in one room.
///
/// # Errors
/// When the README has others.
fn chat_lines(readme: &str) -> anyhow::Result<[Chat<'_>; 2]> {
    let block = shell_blocks(readme).into_iter().next().context("README.md has no block of commands (```sh)")?;
    let found: Vec<(Chat<'_>, &str)> = block
        .into_iter()
        .filter_map(|line| {
            let (nick, room) = line.strip_prefix(CHAT)?.split_once(' ')?;
            (!nick.is_empty() && !room.is_empty() && !room.contains(' ')).then_some((Chat { line, nick }, room))
        })
        .collect();
    let count = found.len();
    let Ok([(first, first_room), (second, second_room)]) = <[_; 2]>::try_from(found) else {
        anyhow::bail!("the first block of commands in README.md has {count} lines `{CHAT}NICK ROOM`, not two");
    };
    ensure!(first_room == second_room, "the two chats of README.md are in the rooms {first_room} and {second_room}");
    ensure!(first.nick != second.nick, "the two chats of README.md are both called {}", first.nick);
    Ok([first, second])
}

/// The lines that start a server, and a chat that begins there.
///
/// # Errors
/// When no block has one of each.
fn server_lines(readme: &str) -> anyhow::Result<(&str, Chat<'_>)> {
    for block in shell_blocks(readme) {
        let server = block.iter().find(|line| line.strip_prefix(SETOWIRE).is_some_and(|it| it.starts_with("serve ")));
        let chat = block.iter().find(|line| line.starts_with(CHAT) && line.contains(BEGIN));
        if let (Some(server), Some(line)) = (server, chat)
            && let Some((nick, _)) = line.strip_prefix(CHAT).and_then(|rest| rest.split_once(' '))
        {
            return Ok((server, Chat { line, nick }));
        }
    }
    anyhow::bail!("no block of commands in README.md has a line `{SETOWIRE}serve ..` and one `{CHAT}..{BEGIN}..`")
}

/// The line that runs the tests.
///
/// # Errors
/// When the README has none.
fn test_line(readme: &str) -> anyhow::Result<&str> {
    let is_it = |line: &&str| line.split('#').next().is_some_and(|command| command.trim_end() == TEST);
    let mut lines = shell_blocks(readme).into_iter().flatten();
    lines.find(is_it).with_context(|| format!("no block of commands in README.md has the line `{TEST}`"))
}

/// The lines of each block fenced as shell commands.
fn shell_blocks(text: &str) -> Vec<Vec<&str>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while lines.by_ref().any(|line| line == "```sh") {
        blocks.push(lines.by_ref().take_while(|line| *line != "```").map(str::trim).collect());
    }
    blocks
}

/// Builds the chat and runs the two of the README; whether all went as it should.
fn chats(report: &mut Report, place: &Place) -> anyhow::Result<bool> {
    let readme = match place.readme() {
        Ok(text) => text,
        Err(error) => return report.push(place.failed(NAMES[0], &error)).map(|()| false),
    };
    let [first, second] = match chat_lines(&readme) {
        Ok(chats) => chats,
        Err(error) => return report.push(Row::failed(NAMES[0], format!("{error:#}"))).map(|()| false),
    };
    if !place.build(report, "readme: the chat builds", "setowire-chat")? {
        return Ok(false);
    }
    let sh = place.shell()?;
    let network = Network::best(&sh);
    let mut names = NAMES.into_iter();
    let outcome = conversation(place, &network, [&first, &second], |value, goal, note| {
        let name = names.next().unwrap_or("readme");
        report.push(Row::figure(name, value.as_secs_f64(), "s", goal).noting(note))
    });
    if let Err(error) = &outcome {
        report.push(place.failed(names.next().unwrap_or("readme"), error))?;
        for name in names {
            report.push(Row::not_run(name, "it did not come to that"))?;
        }
    }
    Ok(outcome.is_ok())
}

/// From the first word to the last; `done` is told how long each part took, its goal in seconds, and what it was.
fn conversation(
    place: &Place,
    network: &Network,
    chats: [&Chat<'_>; 2],
    mut done: impl FnMut(Duration, Option<f64>, &str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let [mut first, mut second] = [place.start(network, chats[0])?, place.start(network, chats[1])?];
    let start = Instant::now();
    let [one, other] = chats.map(|chat| chat.nick);
    noticed(&mut first, &format!("{other} joined"), MEET)?;
    noticed(&mut second, &format!("{one} joined"), MEET)?;
    done(start.elapsed(), Some(MEET_GOAL), "after the second one listens, until each said that the other joined")?;

    let start = Instant::now();
    said(&mut first, &mut second, one)?;
    said(&mut second, &mut first, other)?;
    done(start.elapsed(), None, "a line each way")?;

    let start = Instant::now();
    first.tell("/quit")?;
    noticed(&mut second, &format!("{one} left"), LEAVE)?;
    first.exited(LEAVE)?;
    second.ended(LEAVE)?;
    done(start.elapsed(), None, "one by /quit, which the other told of; the other by the end of its input")
}

/// Waits for a line about what happens, which begins with `text`.
fn noticed(at: &mut Process, text: &str, limit: Duration) -> anyhow::Result<()> {
    let expected = format!("* {text}");
    at.wait(&format!("line `{expected}`"), limit, |(stream, line)| {
        (*stream == Stream::Err && line.starts_with(&expected)).then_some(())
    })
}

/// One types a line, the other reads it.
fn said(by: &mut Process, to: &mut Process, nick: &str) -> anyhow::Result<()> {
    let text = format!("good day from {nick}");
    by.tell(&text)?;
    let expected = format!("{nick}\t{text}");
    to.wait(&format!("`{text}` on its stdout"), TALK, |(stream, line)| {
        (*stream == Stream::Out && *line == expected).then_some(())
    })
}

/// Starts the server of the README and two chats that know nothing but it; whether all went as it should.
fn served(report: &mut Report, place: &Place) -> anyhow::Result<bool> {
    let readme = place.readme()?;
    let (server, chat) = match server_lines(&readme) {
        Ok(lines) => lines,
        Err(error) => return report.push(Row::failed(SERVED[0], format!("{error:#}"))).map(|()| false),
    };
    if !place.build(report, "readme: the server builds", "setowire-cli")? {
        return Ok(false);
    }
    let sh = place.shell()?;
    let network = Network::best(&sh);
    // A node for the internet says nothing of who is on its own machine only.
    network.add_private_network(&sh)?;
    let mut names = SERVED.into_iter();
    let outcome = meeting(place, &network, server, &chat, |value, note| {
        let name = names.next().unwrap_or("readme");
        report.push(Row::figure(name, value.as_secs_f64(), "s", None).noting(note))
    });
    if let Err(error) = &outcome {
        report.push(place.failed(names.next().unwrap_or("readme"), error))?;
        for name in names {
            report.push(Row::not_run(name, "it did not come to that"))?;
        }
    }
    Ok(outcome.is_ok())
}

/// From the start of the server to its end; `done` is told how long each part took and what it was.
fn meeting(
    place: &Place,
    network: &Network,
    server: &str,
    chat: &Chat<'_>,
    mut done: impl FnMut(Duration, &str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    // An identity of its own, which is not that of whoever builds here.
    let data = place.logs.join("data");
    let line = format!("env SETOWIRE_DATA_DIR='{}' {server}", data.display());
    let mut server = place.spawn(network, &line, "server")?;
    let given = server.wait("line `bootstrap`", START, |(stream, line)| {
        line.strip_prefix("bootstrap\t").filter(|_| *stream == Stream::Out).map(str::to_owned)
    })?;
    noticed(&mut server, "ready", START)?;
    done(start.elapsed(), "until it is ready")?;

    // By what the server said. What else would find them is switched off.
    let target = given.split(' ').next().and_then(|given| given.split('@').nth(1)).context("it gave no address")?;
    let (begin, rest) = chat.line.split_once(BEGIN).context("the chat begins nowhere")?;
    let port = rest.split(' ').next().unwrap_or_default();
    ensure!(target.ends_with(&format!(":{port}")), "the server is at {target}, and the README says port {port}");
    let line = format!("{begin} --bootstrap {target} --no-lan --no-mainline");
    let other = format!("not-{}", chat.nick);
    let second = line.replacen(chat.nick, &other, 1);
    let mut first = place.start(network, &Chat { line: &line, nick: chat.nick })?;
    let mut second = place.start(network, &Chat { line: &second, nick: &other })?;
    let start = Instant::now();
    noticed(&mut first, &format!("{other} joined"), MEET)?;
    noticed(&mut second, &format!("{} joined", chat.nick), MEET)?;
    done(start.elapsed(), "after both listen, by nothing but the server")?;

    let start = Instant::now();
    server.terminate()?;
    server.exited(LEAVE)?;
    said(&mut first, &mut second, chat.nick)?;
    first.ended(LEAVE)?;
    second.ended(LEAVE)?;
    done(start.elapsed(), "by SIGTERM; those who met go on talking")
}

/// The command of the README that runs the tests; whether they passed. It may contact what packages are fetched from.
fn test(report: &mut Report, place: &Place) -> anyhow::Result<bool> {
    let name = format!("readme: {TEST}");
    let start = Instant::now();
    let outcome = (|| {
        let readme = place.readme()?;
        let line = test_line(&readme)?;
        progress(&format!("== {name}: what it prints goes to target/readme/logs/test.log"));
        let mut process = place.spawn(&Network::Shared, line, "test")?;
        process.exited(TESTS)?;
        // The last line of its table, such as `3 rows: 3 ok, ..`.
        process.wait("count of rows", Duration::ZERO, |(stream, line)| {
            (*stream == Stream::Out && line.contains(" rows: ")).then(|| line.clone())
        })
    })();
    let passed = outcome.is_ok();
    report.push(match outcome {
        Ok(count) => Row::figure(name, start.elapsed().as_secs_f64(), "s", None).noting(count),
        Err(error) => place.failed(&name, &error),
    })?;
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readme(lines: &[&str]) -> String {
        format!("# X\n\n```text\n{CHAT}no one\n```\n\n```sh\n{}\n```\n\n```sh\n{CHAT}z z\n```\n", lines.join("\n"))
    }

    #[test]
    fn the_chats_are_those_of_the_first_block() {
        let (a, b) = (format!("{CHAT}alice lobby"), format!("{CHAT}bob lobby"));
        let text = readme(&["# one terminal", &a, "# another", &b]);
        let found = chat_lines(&text).unwrap();
        assert_eq!(found, [Chat { line: &a, nick: "alice" }, Chat { line: &b, nick: "bob" }]);
    }

    #[test]
    fn other_chats_are_refused_with_what_is_wrong() {
        let line = |rest: &str| format!("{CHAT}{rest}");
        let refused = |lines: &[&str]| chat_lines(&readme(lines)).unwrap_err().to_string();
        assert!(refused(&[]).contains("has 0 lines"));
        assert!(refused(&[&line("a x"), "cargo run -- b x"]).contains("has 1 lines"));
        assert!(refused(&[&line("a x"), &line("b"), &line("c x --no-lan")]).contains("has 1 lines"));
        assert!(refused(&[&line("a x"), &line("b x"), &line("c x")]).contains("has 3 lines"));
        assert!(refused(&[&line("a x"), &line("b y")]).contains("rooms x and y"));
        assert!(refused(&[&line("a x"), &line("a x")]).contains("both called a"));
        assert!(chat_lines("no blocks").unwrap_err().to_string().contains("no block of commands"));
    }

    #[test]
    fn the_test_command_may_have_a_comment() {
        let text = readme(&["cargo xtask tests", "cargo xtask test      # unit, property"]);
        assert_eq!(test_line(&text).unwrap(), "cargo xtask test      # unit, property");
        assert!(test_line(&readme(&["cargo test"])).is_err());
    }

    #[test]
    fn the_readme_of_this_repository_has_them() {
        let text = fs::read_to_string(workspace::root().join("README.md")).unwrap();
        chat_lines(&text).unwrap();
        server_lines(&text).unwrap();
        test_line(&text).unwrap();
    }

    #[test]
    fn a_clone_hears_of_the_machine_and_not_of_our_build() {
        for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUST_LOG"] {
            assert!(is_of_a_build(name), "{name}");
        }
        for name in
            ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_AUTO_INSTALL", "CARGO_REGISTRIES_X_INDEX", "CARGO_HTTP_PROXY", "PATH"]
        {
            assert!(!is_of_a_build(name), "{name}");
        }
    }
}
