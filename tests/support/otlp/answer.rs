//! What the receiver says to a request.

use std::collections::VecDeque;
use std::time::Duration;

use tonic::Code;

/// The answer to one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Takes everything.
    Accept,
    /// Takes everything, but answers late.
    Delay(Duration),
    /// Takes everything but the last so many spans or data points.
    Partial { rejected: usize, message: String },
    /// Takes nothing, with a status for HTTP and one for gRPC.
    Refuse {
        http: u16,
        grpc: Code,
        message: String,
    },
    /// Takes nothing and says when to come again; whole seconds over HTTP.
    RetryAfter(Duration),
    /// Takes nothing: closes the connection after the first bytes of the answer.
    Cut,
    /// Takes nothing and leaves the connection open.
    Silence,
}

impl Answer {
    /// The client's fault: not to be tried again.
    pub fn bad_request() -> Answer {
        Answer::refuse(400, Code::InvalidArgument, "no such field")
    }

    /// The token is wrong: not to be tried again.
    pub fn bad_token() -> Answer {
        Answer::refuse(401, Code::Unauthenticated, "invalid token")
    }

    /// To be tried again.
    pub fn unavailable() -> Answer {
        Answer::refuse(503, Code::Unavailable, "try again")
    }

    pub fn refuse(http: u16, grpc: Code, message: &str) -> Answer {
        let message = message.to_owned();
        Answer::Refuse {
            http,
            grpc,
            message,
        }
    }

    pub fn partial(rejected: usize, message: &str) -> Answer {
        let message = message.to_owned();
        Answer::Partial { rejected, message }
    }
}

/// The answers to come.
#[derive(Debug)]
pub(super) struct Script {
    next: VecDeque<Answer>,
    standing: Answer,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            next: VecDeque::new(),
            standing: Answer::Accept,
        }
    }
}

impl Script {
    pub(super) fn set(&mut self, answer: Answer) {
        self.next.clear();
        self.standing = answer;
    }

    pub(super) fn next(&mut self, answers: impl IntoIterator<Item = Answer>) {
        self.next = answers.into_iter().collect();
    }

    pub(super) fn take(&mut self) -> Answer {
        self.next
            .pop_front()
            .unwrap_or_else(|| self.standing.clone())
    }
}
