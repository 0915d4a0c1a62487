//! Claims about the machinery: what a program does takes exactly as long as it says, in every run.

use crate::case::{Tier, Variant};
use crate::cases;
use crate::outcome::Outcome;
use crate::program::{
    Body, Form, How, Program, Site, Step, body, cpu, inside, ms, span, together, wait,
};
use crate::trace;

fn run(form: Form, cores: usize, main: Body) -> Outcome {
    let program = Program {
        form,
        cores,
        main,
        sites: vec!["one".to_owned(), "two".to_owned()],
        gates: vec![1],
        queues: 0,
        gauges: Vec::new(),
        limits: Vec::new(),
    };
    trace::run(&program).unwrap()
}

fn wall_ms(form: Form, cores: usize, main: Body) -> f64 {
    run(form, cores, main).wall_ns / 1e6
}

fn several(how: How, count: usize, steps: &[Step]) -> Body {
    body([together(how, (0..count).map(|_| body(steps.to_vec())))])
}

#[test]
fn threads_share_cores_and_wait_side_by_side() {
    let work = [span(Site(0)).run([cpu(ms(10.0))])];
    assert_eq!(
        wall_ms(Form::Sync, 4, several(How::Threads(4), 4, &work)),
        10.0
    );
    assert_eq!(
        wall_ms(Form::Sync, 2, several(How::Threads(4), 4, &work)),
        20.0
    );
    let sleep = [span(Site(0)).run([wait(ms(10.0))])];
    assert_eq!(
        wall_ms(Form::Sync, 1, several(How::Threads(4), 4, &sleep)),
        10.0
    );
}

#[test]
fn tasks_share_workers_when_they_compute_and_none_when_they_wait() {
    let work = [span(Site(0)).run([cpu(ms(10.0))])];
    assert_eq!(
        wall_ms(Form::Tasks(1), 4, several(How::Tasks, 4, &work)),
        40.0
    );
    assert_eq!(
        wall_ms(Form::Tasks(2), 4, several(How::Tasks, 4, &work)),
        20.0
    );
    let sleep = [span(Site(0)).run([wait(ms(10.0))])];
    assert_eq!(
        wall_ms(Form::Tasks(1), 4, several(How::Tasks, 4, &sleep)),
        10.0
    );
    assert_eq!(
        wall_ms(Form::Tasks(1), 4, several(How::Join, 4, &sleep)),
        10.0
    );
}

#[test]
fn a_gate_of_one_lets_one_in_after_the_other() {
    let work = [inside(crate::program::Gate(0), [wait(ms(5.0))])];
    for (form, how) in [(Form::Sync, How::Threads(4)), (Form::Tasks(2), How::Tasks)] {
        assert_eq!(wall_ms(form, 4, several(how, 4, &work)), 20.0);
    }
}

#[test]
fn every_case_can_be_built_and_says_the_same_with_and_without_its_plant() {
    for case in cases::all() {
        for tier in [Tier::Trace, Tier::Live] {
            for number in 0..6 {
                let built = |fixed| {
                    case.build(Variant {
                        seed: 7,
                        number,
                        tier,
                        fixed,
                    })
                };
                let (with, without) = (built(false), built(true));
                assert_eq!(
                    with.truth.primary.is_some(),
                    case.rule.is_some(),
                    "{}",
                    case.id
                );
                assert!(without.truth.primary.is_none(), "{}", case.id);
                assert_eq!(with.program.sites, without.program.sites, "{}", case.id);
            }
        }
    }
}

#[test]
fn no_name_gives_a_plant_away_and_no_two_variants_share_names() {
    let case = cases::all()[0];
    let names = |number| {
        let variant = Variant {
            seed: 7,
            number,
            tier: Tier::Trace,
            fixed: false,
        };
        case.build(variant).program.sites
    };
    assert!(names(0).iter().all(|name| !case.id.contains(name.as_str())));
    assert_ne!(names(0)[0], names(1)[0]);
}

#[test]
fn a_program_takes_the_same_time_and_has_the_same_findings_in_every_run() {
    let find = |id: &str| cases::all().into_iter().find(|case| case.id == id).unwrap();
    for id in ["query-per-row", "hot-mutex", "three-serial-awaits"] {
        let variant = Variant {
            seed: 3,
            number: 1,
            tier: Tier::Trace,
            fixed: false,
        };
        let program = find(id).build(variant).program;
        let [one, other] = [0, 1].map(|_| {
            let outcome = trace::run(&program).unwrap();
            let findings = outcome.findings.iter();
            // Not their words: which roots are sampled depends on when the collector looks, in real time.
            let rules: Vec<_> = findings
                .map(|found| (found.rule.clone(), found.site.clone()))
                .collect();
            (outcome.wall_ns, outcome.roots_ns, rules)
        });
        assert_eq!(one, other, "{id}");
    }
}
