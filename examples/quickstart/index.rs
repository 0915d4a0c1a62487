//! An inverted index: for each word, the files that it occurs in and how often.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::{fmt, io, thread};

use tracing::field::Empty;
use tracing::{Span, instrument};

use crate::corpus;

const THREADS: usize = 4;
const WORDS_PER_QUERY: usize = 3;
const QUERIES_PER_FILE: usize = 32;
const MAX_QUERIES: usize = 3_000;

/// The files and their words.
#[derive(Default)]
pub(crate) struct Index {
    /// By their place in the sorted list, so that the answers do not depend on which thread took which file.
    files: BTreeMap<usize, File>,
    postings: HashMap<String, Vec<Posting>>,
}

struct File {
    path: PathBuf,
    tokens: usize,
}

#[derive(Clone, Copy)]
struct Posting {
    file: usize,
    count: u32,
}

/// A file that answers a query, and how well.
#[derive(Clone, Copy)]
pub(crate) struct Match {
    file: usize,
    score: f64,
}

/// The line of a file that answers a query best.
pub(crate) struct Excerpt {
    path: PathBuf,
    line: usize,
    text: String,
}

/// Words to search for.
#[derive(Clone)]
pub(crate) struct Query {
    words: Vec<String>,
}

impl Query {
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Query {
        let words = words.into_iter().map(|word| word.to_lowercase());
        Query {
            words: words.collect(),
        }
    }
}

impl Index {
    /// Indexes the files on a few threads, each of which takes the next file until there is none.
    #[instrument(skip_all, fields(files = paths.len()))]
    pub(crate) fn build(paths: &[PathBuf]) -> io::Result<Index> {
        let build = Span::current();
        let next = AtomicUsize::new(0);
        let parts = thread::scope(|scope| {
            let workers: Vec<_> = (0..THREADS)
                .map(|number| {
                    thread::Builder::new()
                        .name(format!("index-{number}"))
                        .spawn_scoped(scope, || Index::build_part(&build, paths, &next))
                })
                .collect::<io::Result<_>>()?;
            workers
                .into_iter()
                .map(|worker| {
                    worker
                        .join()
                        .map_err(|_| io::Error::other("a thread panicked"))
                })
                .collect::<io::Result<Vec<Index>>>()
        })?;
        Ok(Index::merge(parts))
    }

    #[instrument(parent = build, skip_all)]
    fn build_part(build: &Span, paths: &[PathBuf], next: &AtomicUsize) -> Index {
        let mut part = Index::default();
        loop {
            let file = next.fetch_add(1, Relaxed);
            let Some(path) = paths.get(file) else {
                return part;
            };
            // What cannot be read is left out; its span carries the error into the profile.
            if let Ok(Some(text)) = corpus::read(path) {
                part.add(file, path, &text);
            }
        }
    }

    #[instrument(skip_all, fields(path = %path.display()))]
    fn add(&mut self, file: usize, path: &Path, text: &str) {
        let tokens = tokenise(text);
        let described = File {
            path: path.to_owned(),
            tokens: tokens.len(),
        };
        self.files.insert(file, described);
        for token in tokens {
            let postings = self.postings.entry(token.word).or_default();
            match postings.last_mut() {
                Some(last) if last.file == file => last.count += 1,
                _ => postings.push(Posting { file, count: 1 }),
            }
        }
    }

    #[instrument(skip_all, fields(parts = parts.len()))]
    fn merge(parts: Vec<Index>) -> Index {
        let mut whole = Index::default();
        for part in parts {
            whole.files.extend(part.files);
            for (word, postings) in part.postings {
                whole.postings.entry(word).or_default().extend(postings);
            }
        }
        whole
    }

    /// Makes queries of what sets each file apart: the words that are frequent in it and rare elsewhere.
    #[instrument(skip_all)]
    pub(crate) fn characteristic_queries(&self) -> Vec<Query> {
        let mut words_of_files: BTreeMap<usize, Vec<(f64, &String)>> = BTreeMap::new();
        for (word, postings) in &self.postings {
            for posting in postings {
                let weight = f64::from(posting.count) * self.rarity(postings);
                words_of_files
                    .entry(posting.file)
                    .or_default()
                    .push((weight, word));
            }
        }
        let mut queries = Vec::new();
        for mut words in words_of_files.into_values() {
            words.sort_by(|a, b| descending(a.0, b.0).then_with(|| a.1.cmp(b.1)));
            let chunks = words.chunks(WORDS_PER_QUERY).take(QUERIES_PER_FILE);
            queries.extend(
                chunks.map(|words| Query::new(words.iter().map(|(_, word)| String::clone(word)))),
            );
        }
        let step = queries.len().div_ceil(MAX_QUERIES).max(1);
        queries.into_iter().step_by(step).collect()
    }

    /// Returns the files that answer the query, the best first (Okapi BM25).
    #[instrument(skip_all, fields(candidates = Empty))]
    pub(crate) fn rank(&self, query: &Query, limit: usize) -> Vec<Match> {
        let tokens: usize = self.files.values().map(|file| file.tokens).sum();
        let mean = tokens as f64 / self.files.len().max(1) as f64;
        let mut scores: HashMap<usize, f64> = HashMap::new();
        for postings in query
            .words
            .iter()
            .filter_map(|word| self.postings.get(word))
        {
            for posting in postings {
                let length = self.files[&posting.file].tokens as f64 / mean;
                let count = f64::from(posting.count);
                let weight = count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length));
                *scores.entry(posting.file).or_default() += weight * self.rarity(postings);
            }
        }
        Span::current().record("candidates", scores.len());
        let mut matches: Vec<Match> = scores
            .into_iter()
            .map(|(file, score)| Match { file, score })
            .collect();
        matches.sort_by(|a, b| descending(a.score, b.score).then(a.file.cmp(&b.file)));
        matches.truncate(limit);
        matches
    }

    fn rarity(&self, postings: &[Posting]) -> f64 {
        (1.0 + self.files.len() as f64 / postings.len() as f64).ln()
    }

    /// Finds the line with the most different words of the query.
    ///
    /// The index does not say where in a file a word stands, so this reads and tokenises the whole file, for every match
    /// of every query. Keeping the line in each `Posting` would cost a little memory and make all that work needless.
    #[instrument(skip_all)]
    pub(crate) fn excerpt(&self, found: Match, query: &Query) -> io::Result<Excerpt> {
        let path = &self.files[&found.file].path;
        let text = corpus::read(path)?.unwrap_or_default();
        let mut words_of_lines: HashMap<usize, HashSet<String>> = HashMap::new();
        for token in tokenise(&text) {
            if query.words.contains(&token.word) {
                let words = words_of_lines.entry(token.line).or_default();
                words.insert(token.word);
            }
        }
        let line = words_of_lines
            .iter()
            .max_by_key(|(line, words)| (words.len(), std::cmp::Reverse(**line)))
            .map_or(0, |(line, _)| *line);
        Ok(Excerpt {
            path: path.clone(),
            line: line + 1,
            text: text.lines().nth(line).unwrap_or_default().trim().to_owned(),
        })
    }
}

struct Token {
    word: String,
    line: usize,
}

/// Cuts a text into words: letters, digits and underscores, in lower case.
#[instrument(skip_all, fields(bytes = text.len(), tokens = Empty))]
fn tokenise(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let words = text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
        tokens.extend(words.filter(|word| word.len() > 1).map(|word| Token {
            word: word.to_lowercase(),
            line,
        }));
    }
    Span::current().record("tokens", tokens.len());
    tokens
}

fn descending(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, words) = (self.files.len(), self.postings.len());
        write!(f, "{files} files with {words} different words")
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.text)
    }
}
