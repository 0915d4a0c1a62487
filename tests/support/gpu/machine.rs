//! A directory with the libraries of a GPU machine, and children that find them there.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use tempfile::TempDir;

/// Names what the child does.
const VARIABLE: &str = "CORTEX_GPU_SCENARIO";
/// Begins the lines that a child says.
const SAID: &str = "child: ";
/// Longer than any child takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Library {
    Driver,
    Cupti,
    Nvml,
    Nvtx,
}

impl Library {
    const ALL: [Library; 4] = [
        Library::Driver,
        Library::Cupti,
        Library::Nvml,
        Library::Nvtx,
    ];

    /// The names under which programs look for it.
    fn names(self) -> &'static [&'static str] {
        match self {
            Library::Driver => &["libcuda.so.1", "libcuda.so"],
            Library::Cupti => &["libcupti.so.13"],
            Library::Nvml => &["libnvidia-ml.so.1"],
            Library::Nvtx => &["libnvtx3interop.so.1"],
        }
    }
}

/// A machine with every library and one GPU, until told otherwise.
pub struct Machine {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl Machine {
    pub fn new() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        for name in Library::ALL.iter().flat_map(|library| library.names()) {
            symlink(built(), directory.path().join(name)).unwrap();
        }
        Machine {
            directory,
            variables: Vec::new(),
        }
    }

    /// Where the libraries are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn without(self, library: Library) -> Machine {
        for name in library.names() {
            fs::remove_file(self.directory().join(name)).unwrap();
        }
        self
    }

    /// In place of the library a copy that lacks the symbol. It shares no state with the other libraries.
    pub fn without_symbol(self, library: Library, symbol: &str) -> Machine {
        self.without_symbol_in(library.names(), symbol)
    }

    /// In place of all libraries a copy that lacks the symbol.
    pub fn without_symbol_anywhere(self, symbol: &str) -> Machine {
        let names: Vec<_> = Library::ALL
            .iter()
            .flat_map(|library| library.names())
            .copied()
            .collect();
        self.without_symbol_in(&names, symbol)
    }

    fn without_symbol_in(self, names: &[&str], symbol: &str) -> Machine {
        let path = self.directory().join(names[0]);
        let mut bytes = fs::read(&path).unwrap();
        let wanted = [b"\0", symbol.as_bytes(), b"\0"].concat();
        // The table of the names for the dynamic linker comes before every other text.
        let mut windows = bytes.windows(wanted.len());
        let at = windows.position(|window| window == wanted);
        let at = at.unwrap_or_else(|| panic!("no symbol is called {symbol}"));
        bytes[at + 1] = b'-';
        for name in names {
            fs::remove_file(self.directory().join(name)).unwrap();
        }
        fs::write(&path, bytes).unwrap();
        for name in &names[1..] {
            symlink(&path, self.directory().join(name)).unwrap();
        }
        self
    }

    /// Sets a knob of the simulator, by its name without `FAKE_`.
    pub fn knob(self, name: &str, value: i64) -> Machine {
        self.variable(&format!("FAKE_{name}"), &value.to_string())
    }

    /// Sets a variable of the child's environment.
    pub fn variable(mut self, name: &str, value: &str) -> Machine {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A program on this machine.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("FAKE_") {
                command.env_remove(name);
            }
        }
        command.env("LD_LIBRARY_PATH", self.directory());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the test `child` of this test program in a process of its own, where [`scenario`] answers with the name.
    /// Returns the lines that it says; fails when it does.
    pub fn run(&self, scenario: &str) -> Vec<String> {
        let (success, out, err) = self.run_to_end(scenario);
        assert!(success, "{scenario} failed:\n{out}\n{err}");
        assert!(out.contains("1 passed"), "there is no test `child`:\n{out}");
        // The harness writes on the line that a test begins.
        let said = out.lines().filter_map(|line| line.split_once(SAID));
        said.map(|(_, text)| text.to_owned()).collect()
    }

    /// Like [`Machine::run`], for a child that may fail: whether it succeeded, its output, and its errors.
    pub fn run_to_end(&self, scenario: &str) -> (bool, String, String) {
        let mut command = self.command(env::current_exe().unwrap());
        command.args(["child", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(VARIABLE, scenario).stdin(Stdio::null());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read = |pipe: &mut dyn Read| {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        thread::scope(|scope| {
            let out = scope.spawn(move || read(&mut out));
            let err = scope.spawn(move || read(&mut err));
            let begun = Instant::now();
            let status = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break Some(status),
                    None if begun.elapsed() > PATIENCE => break None,
                    None => thread::sleep(Duration::from_millis(5)),
                }
            };
            if status.is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            let (out, err) = (out.join().unwrap(), err.join().unwrap());
            let status = status.unwrap_or_else(|| panic!("{scenario} does not end:\n{out}\n{err}"));
            (status.success(), out, err)
        })
    }
}

/// What this process is to do, when it is a child.
pub fn scenario() -> Option<String> {
    env::var(VARIABLE).ok()
}

/// Writes a line that the parent reads.
pub fn say(line: &str) {
    println!("{SAID}{line}");
}

/// The library, built once per test process. Cargo's lock keeps several of them apart.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = root.join("target/fake-gpu");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "--offline", "--target-dir"])
            .arg(&target);
        cargo.current_dir(root.join("tests/fake-gpu"));
        // Instrumentation of the tests, such as that for coverage, is not for this library.
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "CARGO_BUILD_TARGET",
        ] {
            cargo.env_remove(name);
        }
        let output = cargo.output().unwrap();
        assert!(
            output.status.success(),
            "the simulator does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        target.join("debug/libfake_gpu.so")
    })
}
