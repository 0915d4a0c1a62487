//! Tasks that keep their worker from others, or wait for what need not be waited for.

use std::time::Duration;

use crate::case::{Case, Forms, Tiers, plant};
use crate::program::{
    Body, How, Step, block, body, cpu, inside, locked, repeat, span, together, us, wait,
};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    plant("sleep-in-a-task", "CTX101", Forms::Async, sleep_in_a_task),
    plant(
        "file-read-in-a-task",
        "CTX101",
        Forms::Async,
        file_read_in_a_task,
    ),
    plant(
        "computes-in-a-poll",
        "CTX102",
        Forms::Async,
        computes_in_a_poll,
    ),
    plant("parses-in-a-poll", "CTX102", Forms::Async, parses_in_a_poll),
    plant(
        "three-serial-awaits",
        "CTX103",
        Forms::Async,
        three_serial_awaits,
    ),
    plant(
        "serial-pair-in-a-loop",
        "CTX103",
        Forms::Async,
        serial_pair_in_a_loop,
    ),
    plant(
        "said-to-be-independent",
        "CTX103",
        Forms::Async,
        said_to_be_independent,
    ),
    plant("too-few-workers", "CTX104", Forms::Async, too_few_workers),
    plant(
        "yields-until-it-is-there",
        "CTX105",
        Forms::Async,
        yields_until,
    ),
    plant("never-yields", "CTX106", Forms::Async, never_yields),
    plant("tiny-tasks", "CTX107", Forms::Sync, tiny_tasks),
    plant("all-at-once", "CTX108", Forms::Async, all_at_once),
    plant("forgotten-tasks", "CTX109", Forms::Async, forgotten).only(Tiers::Trace),
    plant("mutex-in-a-poll", "CTX201", Forms::Async, mutex_in_a_poll),
];

fn sleep_in_a_task(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    let cost = s.ms(12.0);
    s.at_once(4, 6, cost, |s| match s.fixed {
        true => vec![span(site).run([wait(cost)])],
        false => vec![span(site).plain().run([block(cost)])],
    })
}

/// Without a span of its own: the task's own polls are long.
fn file_read_in_a_task(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    let cost = s.ms(16.0);
    s.at_once(4, 5, cost, |s| {
        let step = if s.fixed { wait } else { block };
        vec![span(site).run([Step::Yield, step(cost), Step::Yield])]
    })
}

fn computes_in_a_poll(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    let cost = s.ms(15.0);
    let length = if s.fixed { cost / 40 } else { cost };
    s.requests(12, cost, |_, _| vec![span(site).plain().run([cpu(length)])])
}

fn parses_in_a_poll(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    // Where several tasks want few workers, a replay of each alone sees less than what vanishes.
    s.share = s.share.mul_add(0.5, 0.4);
    let cost = s.ms(20.0);
    let length = if s.fixed { cost / 40 } else { cost };
    s.at_once(3, 4, cost, |_| {
        vec![span(site).run([Step::Yield, cpu(length), Step::Yield])]
    })
}

/// Awaits of these lengths in milliseconds, so many times.
fn awaits(s: &mut Scene, lengths: &[f64], times: usize, independent: bool) -> Body {
    let outer = s.site();
    let sites: Vec<_> = lengths.iter().map(|_| s.site()).collect();
    s.planted_at(&[&[outer][..], &sites].concat());
    let lengths: Vec<_> = lengths.iter().map(|&length| s.ms(length)).collect();
    let cost = lengths.iter().sum::<Duration>() * times as u32;
    // What can vanish is less than what they take.
    s.share = s.share.mul_add(0.5, 0.45);
    s.requests(12, cost, |s, _| {
        let rounds = (0..times).map(|_| {
            let awaits: Vec<_> = sites
                .iter()
                .zip(&lengths)
                .map(|(&site, &length)| {
                    let site = match independent {
                        true => span(site).set("cortex.independent", true),
                        false => span(site),
                    };
                    site.run([wait(s.rng.about(length, 0.1))])
                })
                .collect();
            match s.fixed {
                true => together(How::Join, awaits.into_iter().map(|step| body([step]))),
                false => Step::Many(awaits),
            }
        });
        let rounds: Vec<_> = rounds.collect();
        vec![span(outer).run(rounds)]
    })
}

fn three_serial_awaits(s: &mut Scene) -> Body {
    awaits(s, &[6.0, 5.0, 4.0], 1, false)
}

fn serial_pair_in_a_loop(s: &mut Scene) -> Body {
    awaits(s, &[3.0, 3.0], 3, false)
}

fn said_to_be_independent(s: &mut Scene) -> Body {
    awaits(s, &[5.0, 5.0, 5.0, 5.0], 1, true)
}

/// Tasks that are short and many, and a worker where two would have something to do.
fn too_few_workers(s: &mut Scene) -> Body {
    let root = s.site();
    // Of many kinds, so that none of them is what takes the time.
    let sites: Vec<_> = (0..12).map(|_| s.site()).collect();
    s.planted_at(&sites);
    s.workers = if s.fixed { 2 } else { 1 };
    let length = s.ms(0.5);
    let (bursts, at_once) = if s.fixed { (240, 2) } else { (8, 60) };
    let bursts = (0..bursts).map(|burst| {
        let tasks = (0..at_once).map(|number| {
            let number = burst * at_once + number;
            let length = s.rng.about(length, 0.3);
            let half = cpu(length / 2);
            let site = sites[number % sites.len()];
            body([span(site).run([half.clone(), Step::Yield, half])])
        });
        span(root).run([together(How::Tasks, tasks.collect::<Vec<_>>())])
    });
    body(bursts.collect::<Vec<_>>())
}

fn yields_until(s: &mut Scene) -> Body {
    let (root, site, other) = (s.site(), s.site(), s.site());
    s.planted(site);
    s.no_gain();
    s.workers = 2;
    let length = s.ms(150.0);
    let poll = us(2.0);
    let polls = (length.as_nanos() / poll.as_nanos()) as usize;
    let waits = match s.fixed {
        true => wait(length),
        false => repeat(polls, |_| Step::Many(vec![cpu(poll), Step::Yield])),
    };
    let work = repeat(6, |_| Step::Many(vec![cpu(us(300.0)), wait(length / 8)]));
    let tasks = [
        body([span(site).run([waits])]),
        body([span(root).run([span(other).run([work])])]),
    ];
    body([together(How::Tasks, tasks)])
}

fn never_yields(s: &mut Scene) -> Body {
    let (outer, site, other) = (s.site(), s.site(), s.site());
    s.planted(site);
    s.no_gain();
    s.also("CTX102");
    s.workers = 1;
    let length = us(1_100_000.0);
    let compute = match s.fixed {
        true => s.polite(length),
        false => cpu(length),
    };
    let before = repeat(5, |_| span(other).run([cpu(us(100.0)), wait(us(3_000.0))]));
    let task = body([span(outer).run([before, span(site).run([compute])])]);
    let others = repeat(20, |_| {
        span(other).run([cpu(us(200.0)), wait(us(20_000.0))])
    });
    body([together(How::Tasks, [task, body([others])])])
}

/// Handing over a piece costs more than the piece.
fn tiny_tasks(s: &mut Scene) -> Body {
    let (root, site) = (s.site(), s.site());
    s.planted(site);
    let (pieces, piece, hand_over) = (30_000, us(2.0), us(4.0));
    let grouped = if s.fixed { 100 } else { 1 };
    let items = (0..pieces / grouped).map(|_| {
        let work = span(site).run([cpu(piece * grouped as u32)]);
        body([cpu(hand_over), work])
    });
    let items: Vec<_> = items.collect();
    body([span(root).run([together(How::Threads(2), items)])])
}

fn all_at_once(s: &mut Scene) -> Body {
    let (root, site, other) = (s.site(), s.site(), s.site());
    s.planted(site);
    s.no_gain();
    let server = s.gate(4);
    let tasks = 200;
    let answer = s.ms(1.5);
    let at_a_time = if s.fixed { 4 } else { tasks };
    let rounds = (0..tasks / at_a_time).map(|_| {
        let tasks = (0..at_a_time).map(|_| {
            let answer = s.rng.about(answer, 0.2);
            let ask = inside(server, [wait(answer)]);
            body([span(site).run([ask, cpu(us(30.0)), span(other).run([Step::Yield])])])
        });
        together(How::Tasks, tasks.collect::<Vec<_>>())
    });
    body([span(root).run(rounds.collect::<Vec<_>>())])
}

fn forgotten(s: &mut Scene) -> Body {
    let (root, site) = (s.site(), s.site());
    s.planted(site);
    s.no_gain();
    let never = s.gate(0);
    s.share = 0.1;
    let cost = us(500.0);
    let requests = (0..100).map(|_| {
        let task = match s.fixed {
            true => span(site).run([wait(us(300.0))]),
            false => span(site).run([wait(us(300.0)), inside(never, [])]),
        };
        let handled = s.request(root, cost, [wait(cost)]);
        let task = Step::Detached(body([task]));
        Step::Many(vec![handled, task, wait(us(95_000.0))])
    });
    body(requests.collect::<Vec<_>>())
}

/// The worker waits for the lock, not only the task.
fn mutex_in_a_poll(s: &mut Scene) -> Body {
    let (root, site, other) = (s.site(), s.site(), s.site());
    s.planted(site);
    s.also("CTX101");
    s.workers = 4;
    let (hold, own) = (s.ms(0.8), us(150.0));
    let locks: Vec<_> = (0..8).map(|_| s.gate(1)).collect();
    let name = s.name();
    let tasks = (0..8).map(|task| {
        let lock = locks[if s.fixed { task } else { 0 }];
        let requests = (0..12).map(|_| {
            let hold = s.rng.about(hold, 0.1);
            let section = locked(lock, "lock.wait_ns", Some("lock.hold_ns"), [cpu(hold)]);
            let section = span(site)
                .set("lock.name", name.clone())
                .later("lock.wait_ns")
                .later("lock.hold_ns")
                .plain()
                .run([section]);
            let rest = span(other).run([cpu(own), Step::Yield]);
            span(root).run([rest, section, Step::Yield])
        });
        body(requests.collect::<Vec<_>>())
    });
    body([together(How::Tasks, tasks.collect::<Vec<_>>())])
}
