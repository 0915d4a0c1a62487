//! The modules of `src/` name each other only as the design allows.
#![allow(
    clippy::unwrap_used,
    reason = "clippy's exception for tests does not reach helpers"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Each module and the modules that it may name.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &["model"]),
    ("capture", &["model", "clock"]),
    ("gpu", &["model", "clock", "capture"]),
    ("join", &["model"]),
    ("aggregate", &["model"]),
    ("resources", &["model", "clock"]),
    ("gpu", &["model", "clock", "capture"]),
    ("diagnose", &["model"]),
    ("sink", &["model"]),
    (
        "pipeline",
        &[
            "model",
            "clock",
            "capture",
            "gpu",
            "join",
            "aggregate",
            "resources",
            "gpu",
            "diagnose",
            "sink",
        ],
    ),
];

/// The only files with unsafe code.
const UNSAFE: &[&str] = &[
    "capture/process.rs",
    "gpu/cupti/buffers.rs",
    "gpu/cupti/callback.rs",
    "gpu/cupti/library.rs",
    "gpu/driver.rs",
    "gpu/event_api.rs",
    "gpu/nvtx.rs",
    "gpu/range.rs",
    "gpu/symbols.rs",
];

#[test]
fn modules_name_only_what_the_design_allows() {
    let found = violations_in(&sources());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_entry_of_src_is_in_the_table() {
    let sources = sources();
    for (module, _) in ALLOWED {
        assert!(
            sources
                .iter()
                .any(|source| source.module()[..1] == [*module]),
            "{module} is in the table but not in src/"
        );
    }
}

#[test]
fn unsafe_code_is_where_the_list_says() {
    let mut with_unsafe: Vec<_> = sources()
        .into_iter()
        .filter(|source| tokens(&source.text).any(|token| token.text == "unsafe"))
        .map(|source| source.path)
        .collect();
    with_unsafe.sort();
    assert_eq!(with_unsafe, UNSAFE);
}

#[test]
fn lib_rs_only_declares_and_re_exports() {
    let text = fs::read_to_string(src().join("lib.rs")).unwrap();
    let tokens: Vec<_> = tokens(&text).map(|token| token.text).collect();
    let items = tokens.split(|token| token == ";");
    let items = items.filter(|item| !item.is_empty());
    // The README is a doctest by way of an empty item that exists only then.
    for item in items.filter(|item| !item.iter().any(|token| token == "doctest")) {
        let item: Vec<_> = without_attributes(item);
        let declares = matches!(item[..], ["mod", _] | ["pub", "mod", _]);
        let re_exports = item[..2] == ["pub", "use"];
        assert!(
            declares || re_exports,
            "lib.rs has logic: {}",
            item.join(" ")
        );
    }
}

#[test]
fn planted_violations_are_found() {
    for (path, text, what) in [
        (
            "diagnose/rules/x.rs",
            "use crate::sink::Sink;",
            "diagnose names sink",
        ),
        (
            "sink/mod.rs",
            "fn f() { crate::diagnose::diagnose() }",
            "sink names diagnose",
        ),
        (
            "clock.rs",
            "use crate::capture::Capture;",
            "clock names capture",
        ),
        (
            "clock.rs",
            "use super::capture::Capture;",
            "clock names capture",
        ),
        (
            "sink/report/text.rs",
            "use super::super::super::clock::Clock;",
            "sink names clock",
        ),
        (
            "sink/mod.rs",
            "mod tests { use super::super::clock::Clock; }",
            "sink names clock",
        ),
        ("diagnose/mod.rs", "use crate::Sink;", "crate::Sink"),
        (
            "pipeline/guard.rs",
            "use crate::CortexLayer;",
            "crate::CortexLayer",
        ),
        ("diagnose/mod.rs", "use super::Profile;", "crate::Profile"),
        (
            "diagnose/mod.rs",
            "use crate::{model::Profile, sink::Sink};",
            "grouped",
        ),
        (
            "diagnose/mod.rs",
            "use super::{model::Profile, sink::Sink};",
            "grouped",
        ),
        ("diagnose/mod.rs", "use crate::*;", "grouped"),
        (
            "model/time.rs",
            "pub(in crate::clock) fn f() {}",
            "model names clock",
        ),
        (
            "model/time.rs",
            "macro_rules! m { () => { $crate::sink::f() } }",
            "model names sink",
        ),
        (
            "model/time.rs",
            "use crate as this;",
            "another name for the crate",
        ),
        (
            "model/time.rs",
            "extern crate self as this;",
            "another name for the crate",
        ),
        ("exporter/mod.rs", "", "not in the table"),
        ("util.rs", "", "not in the table"),
    ] {
        let found = violations_in(&[source(path, text)]);
        assert!(
            found.len() == 1 && found[0].contains(what),
            "{path}: {text}\nexpected: {what}\nfound: {found:?}"
        );
    }
}

#[test]
fn what_only_looks_like_a_violation_is_not_found() {
    for (path, text) in [
        (
            "diagnose/mod.rs",
            "// use crate::sink::Sink;\n/* crate::sink /* crate::sink */ */",
        ),
        (
            "diagnose/mod.rs",
            r##"const A: &str = "crate::sink\" crate::sink"; const B: &str = r#"" crate::sink"#;"##,
        ),
        (
            "diagnose/mod.rs",
            "fn f<'a>(c: char) -> bool { c == '\"' || c == '\\'' } use crate::model::Profile;",
        ),
        (
            "diagnose/rules/x.rs",
            "use super::super::evidence::Evidence; use super::Rule;",
        ),
        (
            "diagnose/rules/x.rs",
            "mod tests { use super::*; use super::super::board; }",
        ),
        (
            "diagnose/mod.rs",
            "pub(crate) fn f() {} pub(super) fn g() {}",
        ),
        ("sink/mod.rs", "use crate::sink::chrome::ChromeSink;"),
        ("clock.rs", "use crate::model::Nanos;"),
    ] {
        let found = violations_in(&[source(path, text)]);
        assert!(found.is_empty(), "{path}: {text}\nfound: {found:?}");
    }
}

/// One file of `src/` but `lib.rs`.
struct Source {
    /// Below `src/`, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The path of the module that the file holds.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').collect()
    }
}

fn source(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![src()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let below = path.strip_prefix(src()).unwrap();
            let parts: Vec<_> = below.iter().map(|part| part.to_str().unwrap()).collect();
            if parts != ["lib.rs"] && below.extension().is_some_and(|name| name == "rs") {
                sources.push(source(
                    &parts.join("/"),
                    &fs::read_to_string(&path).unwrap(),
                ));
            }
        }
    }
    assert!(sources.len() > 20, "found only {} files", sources.len());
    sources
}

fn violations_in(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let module = source.module();
        let Some((_, may_name)) = ALLOWED.iter().find(|(name, _)| *name == module[0]) else {
            found.push(format!(
                "{}: {} is not in the table",
                source.path, module[0]
            ));
            continue;
        };
        for (line, edge) in edges(&module, &source.text) {
            let wrong = match edge {
                Edge::To(name) if name == module[0] || may_name.contains(&name.as_str()) => {
                    continue;
                }
                Edge::To(name) if ALLOWED.iter().any(|(module, _)| *module == name) => {
                    format!("{} names {name}", module[0])
                }
                Edge::To(name) => format!("crate::{name} hides which module it is of"),
                Edge::Grouped => {
                    "grouped imports from the crate's root: one path per use".to_owned()
                }
                Edge::Alias => "another name for the crate's root".to_owned(),
            };
            found.push(format!("src/{}:{line}: {wrong}", source.path));
        }
    }
    found
}

/// A path that leaves the file.
enum Edge {
    /// The first step below the crate's root.
    To(String),
    Grouped,
    Alias,
}

/// Returns every path of a file that begins with `crate` or `super`, as far as it comes to the crate's root.
fn edges(module: &[&str], text: &str) -> Vec<(usize, Edge)> {
    let tokens: Vec<Token> = tokens(text).collect();
    let at = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let mut edges = Vec::new();
    // Names of the modules written inside this file, with the depth of braces at which each begins.
    let mut inline: Vec<usize> = Vec::new();
    let mut braces = 0;
    let mut index = 0;
    while index < tokens.len() {
        let line = tokens[index].line;
        match at(index) {
            "{" => {
                if index >= 2 && at(index - 2) == "mod" {
                    inline.push(braces);
                }
                braces += 1;
            }
            "}" => {
                braces -= 1;
                inline.pop_if(|begin| *begin == braces);
            }
            "crate" if at(index + 1) == "as" => edges.push((line, Edge::Alias)),
            "extern" if at(index + 1) == "crate" && at(index + 2) == "self" => {
                edges.push((line, Edge::Alias));
                index += 2;
            }
            "crate" | "super" if at(index + 1) == "::" => {
                let mut above = module.len() + inline.len();
                loop {
                    match at(index) {
                        "crate" => above = 0,
                        "super" => above = above.saturating_sub(1),
                        _ => break,
                    }
                    if at(index + 1) != "::" {
                        break;
                    }
                    index += 2;
                }
                if above == 0 {
                    let edge = match at(index) {
                        "{" | "*" => Edge::Grouped,
                        name => Edge::To(name.to_owned()),
                    };
                    edges.push((line, edge));
                    if at(index) == "{" {
                        braces += 1;
                    }
                } else if at(index) == "{" {
                    braces += 1;
                }
            }
            _ => {}
        }
        index += 1;
    }
    edges
}

fn without_attributes(item: &[String]) -> Vec<&str> {
    let mut kept: Vec<&str> = Vec::new();
    let mut depth = 0;
    let mut previous = "";
    for token in item {
        match token.as_str() {
            "[" if previous == "#" || depth > 0 => depth += 1,
            "]" if depth > 0 => depth -= 1,
            "#" => {}
            token if depth == 0 => kept.push(token),
            _ => {}
        }
        previous = token;
    }
    kept
}

struct Token {
    text: String,
    line: usize,
}

/// Cuts Rust source into words, `::` and single characters; leaves out comments, literals and white space.
fn tokens(text: &str) -> impl Iterator<Item = Token> {
    let mut rest = text;
    let mut line = 1;
    std::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            let length = skipped(rest);
            let token = match length {
                Some(_) => None,
                None if first.is_alphanumeric() || first == '_' => {
                    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                    Some(&rest[..end.unwrap_or(rest.len())])
                }
                None if rest.starts_with("::") => Some("::"),
                None => Some(&rest[..first.len_utf8()]),
            };
            let length = length.or(token.map(str::len)).unwrap_or(1);
            let begin = line;
            line += rest[..length].matches('\n').count();
            let token = token.map(|text| Token {
                text: text.to_owned(),
                line: begin,
            });
            rest = &rest[length..];
            if token.is_some() {
                return token;
            }
        }
    })
}

/// Returns how long the comment, literal or white space at the start of `text` is, if there is one.
fn skipped(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if first.is_whitespace() {
        return Some(first.len_utf8());
    }
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        let mut depth = 0;
        let mut at = 0;
        while at < text.len() {
            let rest = &text.as_bytes()[at..];
            if rest.starts_with(b"/*") {
                depth += 1;
                at += 2;
            } else if rest.starts_with(b"*/") {
                depth -= 1;
                at += 2;
            } else {
                at += 1;
            }
            if depth == 0 {
                return Some(at);
            }
        }
        return Some(text.len());
    }
    let prefix = ["br", "cr", "r"]
        .into_iter()
        .find(|prefix| text.starts_with(prefix));
    if let Some(prefix) = prefix {
        let hashes = text[prefix.len()..]
            .bytes()
            .take_while(|&byte| byte == b'#')
            .count();
        let body = prefix.len() + hashes;
        if text[body..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = text[body + 1..].find(&end);
            return Some(length.map_or(text.len(), |at| body + 1 + at + end.len()));
        }
    }
    if text.starts_with('"') {
        return Some(quoted(text, b'"'));
    }
    // A quote is a character, but for a lifetime, which has no quote behind its first letter.
    let mut chars = text.chars();
    if chars.next() == Some('\'') {
        let (second, third) = (chars.next()?, chars.next());
        if second == '\\' || third == Some('\'') {
            return Some(quoted(text, b'\''));
        }
        return Some(1);
    }
    None
}

/// Returns the length of a literal that begins and ends with `quote`.
fn quoted(text: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        if !escaped && byte == quote {
            return at + 1;
        }
        escaped = !escaped && byte == b'\\';
    }
    text.len()
}
