//! A search engine for the text files of a folder, and the one line that profiles it.
//!
//! ```text
//! cargo run --release --example quickstart [FOLDER [WORD...]]
//! TRACING_CORTEX_CHROME=trace.json cargo run --release --example quickstart
//! ```
//!
//! It walks the folder (the current one unless you name another), indexes its files on a few threads, and lets clients
//! search it on a tokio runtime. One function does far more work than it has to: the report at the end names it, and
//! `index.rs` says how to mend it.

#![allow(clippy::print_stdout, reason = "the answers belong on standard output")]

mod corpus;
mod index;
mod search;

use std::env;
use std::error::Error;
use std::path::Path;

use index::{Index, Query};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let _cortex = tracing_cortex::init()?;

    let mut arguments = env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| ".".to_owned());
    let words: Vec<String> = arguments.collect();

    let files = corpus::walk(Path::new(&folder))?;
    let index = Index::build(&files)?;
    println!("{index}");

    let mut queries = index.characteristic_queries();
    let own = !words.is_empty();
    if own {
        queries.insert(0, Query::new(words));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let answers = runtime.block_on(search::serve(index, queries))?;

    // Your own query, or a few of the others.
    let shown = if own { 1 } else { 3 };
    for answer in answers.iter().step_by(answers.len().div_ceil(shown).max(1)) {
        print!("\n{answer}");
    }
    Ok(())
}
