//! Clients that search at the same time, and a server that lets in as many as there are cores.

use std::error::Error;
use std::sync::Arc;
use std::{fmt, thread};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span, instrument};

use crate::index::{Excerpt, Index, Query};

const CLIENTS: usize = 12;
const MATCHES: usize = 10;

type Failure = Box<dyn Error + Send + Sync>;

/// What a query found.
pub(crate) struct Answer {
    query: Query,
    excerpts: Vec<Excerpt>,
}

struct Server {
    index: Index,
    searches: Semaphore,
}

/// Lets the clients ask all queries; returns the answers in the order of the queries.
#[instrument(skip_all, fields(queries = queries.len()))]
pub(crate) async fn serve(index: Index, queries: Vec<Query>) -> Result<Vec<Answer>, Failure> {
    let cores = thread::available_parallelism()?.get();
    let server = Arc::new(Server {
        index,
        searches: Semaphore::new(cores),
    });
    // Short, so that clients feel it when the answers are not taken fast enough.
    let (answers, mut incoming) = mpsc::channel(CLIENTS);
    let queries: Arc<[Query]> = queries.into();

    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = client(
            number,
            Arc::clone(&server),
            Arc::clone(&queries),
            answers.clone(),
        );
        clients.spawn(client.instrument(info_span!("client", number)));
    }
    drop(answers);

    let mut answered: Vec<(usize, Answer)> = Vec::with_capacity(queries.len());
    while let Some(answer) = incoming.recv().await {
        answered.push(answer);
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    answered.sort_by_key(|(number, _)| *number);
    Ok(answered.into_iter().map(|(_, answer)| answer).collect())
}

/// Asks every twelfth query, one after the other.
async fn client(
    first: usize,
    server: Arc<Server>,
    queries: Arc<[Query]>,
    answers: mpsc::Sender<(usize, Answer)>,
) -> Result<(), Failure> {
    for (number, query) in queries.iter().enumerate().skip(first).step_by(CLIENTS) {
        let answer = server.search(query).await?;
        answers.send((number, answer)).await?;
    }
    Ok(())
}

impl Server {
    #[instrument(skip_all, fields(%query, matches = Empty))]
    async fn search(&self, query: &Query) -> Result<Answer, Failure> {
        let _turn = self.searches.acquire().await?;
        let matches = self.index.rank(query, MATCHES);
        Span::current().record("matches", matches.len());
        let excerpts = matches
            .into_iter()
            .map(|found| self.index.excerpt(found, query))
            .collect::<Result<_, _>>()?;
        Ok(Answer {
            query: query.clone(),
            excerpts,
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.query)?;
        if self.excerpts.is_empty() {
            writeln!(f, "  nothing found")?;
        }
        for excerpt in self.excerpts.iter().take(3) {
            writeln!(f, "  {excerpt}")?;
        }
        Ok(())
    }
}
