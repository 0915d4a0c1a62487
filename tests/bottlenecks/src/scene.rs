//! What varies between the variants of a case: names, amounts, nesting, threads or tasks, and what else goes on.

use std::time::Duration;

use crate::case::{Built, Case, Forms, Planted, Tier, Truth, Variant};
use crate::program::{
    Body, Form, Gate, How, Program, Queue, Reading, Site, Step, body, cpu, repeat, span, threads,
    together,
};
use crate::rng::{Rng, hash};

/// A healthy task that computes gives others a chance this often.
const CHUNK: Duration = Duration::from_micros(100);

pub struct Scene {
    pub rng: Rng,
    /// Without the plant.
    pub fixed: bool,
    pub live: bool,
    /// The part of the whole that the plant takes.
    pub share: f64,
    /// By how much all times are stretched.
    pub scale: f64,
    /// Runs as tasks.
    pub tasks: bool,
    /// Worker threads of the runtime.
    pub workers: usize,
    /// Cores of the simulated machine.
    pub cores: usize,
    rule: Option<&'static str>,
    depth: usize,
    decoys: usize,
    sites: Vec<String>,
    gates: Vec<usize>,
    queues: usize,
    gauges: Vec<(Reading, f64)>,
    limits: Vec<(Site, f64, Duration)>,
    wrappers: Vec<Site>,
    fillers: Vec<Site>,
    /// One thing after the other, so that something else can go on beside it.
    one_by_one: bool,
    truth: Truth,
}

impl Scene {
    pub fn new(case: &Case, variant: Variant) -> Scene {
        let mut rng = Rng::of(&[variant.seed, hash(case.id), variant.number as u64]);
        let share = [0.25, 0.4, 0.6][variant.number % 3] * rng.between(0.95, 1.1);
        // A run on real time is to be short, but not so short that nothing can be said of it.
        let widest = if variant.tier == Tier::Live { 0.3 } else { 1.0 };
        let scale = 2_f64.powf(rng.between(-0.4, widest));
        let tasks = match case.forms {
            Forms::Sync => false,
            Forms::Async => true,
            Forms::Either => variant.number % 2 == 1,
        };
        Scene {
            fixed: variant.fixed,
            live: variant.tier == Tier::Live,
            share,
            scale,
            tasks,
            workers: rng.pick(1, 2),
            cores: 4,
            rule: case.rule,
            depth: rng.pick(0, 4),
            decoys: rng.pick(0, 6),
            sites: Vec::new(),
            gates: Vec::new(),
            queues: 0,
            gauges: Vec::new(),
            limits: Vec::new(),
            wrappers: Vec::new(),
            fillers: Vec::new(),
            one_by_one: false,
            truth: Truth {
                primary: None,
                also: Vec::new(),
                has_gain: true,
                only_low: false,
            },
            rng,
        }
    }

    /// `beside` is how long a thread computes beside the program, for nobody waits for it.
    pub fn finish(mut self, main: Body, beside: Option<Duration>) -> Built {
        let main = match beside {
            Some(length) => {
                let site = self.site();
                let decoy = repeat(20, |_| span(site).run([cpu(length / 20)]));
                body([threads([main, body([decoy])])])
            }
            None => main,
        };
        assert!(
            self.fixed || self.rule.is_none() == self.truth.primary.is_none(),
            "a case says where its plant is"
        );
        let workers = if self.tasks {
            Form::Tasks(self.workers)
        } else {
            Form::Sync
        };
        Built {
            program: Program {
                form: workers,
                cores: self.cores,
                main,
                sites: self.sites,
                gates: self.gates,
                queues: self.queues,
                gauges: self.gauges,
                limits: self.limits,
            },
            truth: Truth {
                primary: self.truth.primary.filter(|_| !self.fixed),
                ..self.truth
            },
        }
    }

    /// Whether a thread beside the program changes nothing but what there is to see.
    pub fn can_have_company(&self) -> bool {
        self.one_by_one && !self.tasks
    }

    /// Draws a callsite.
    pub fn site(&mut self) -> Site {
        loop {
            let name = self.rng.word();
            if !self.sites.contains(&name) {
                self.sites.push(name);
                return Site(self.sites.len() - 1);
            }
        }
    }

    pub fn name(&mut self) -> String {
        self.rng.word()
    }

    pub fn gate(&mut self, places: usize) -> Gate {
        self.gates.push(places);
        Gate(self.gates.len() - 1)
    }

    pub fn queue(&mut self) -> Queue {
        self.queues += 1;
        Queue(self.queues - 1)
    }

    pub fn gauge(&mut self, reading: Reading, start: f64) {
        self.gauges.push((reading, start));
    }

    /// So many per cent of a site's operations are to take no longer than this.
    pub fn limit(&mut self, site: Site, percentile: f64, limit: Duration) {
        self.limits.push((site, percentile, limit));
    }

    /// Says where the plant is.
    pub fn planted(&mut self, site: Site) {
        self.planted_at(&[site]);
    }

    /// Says where the plant is, where more than one name for it is right.
    pub fn planted_at(&mut self, sites: &[Site]) {
        let names = sites.iter().map(|site| self.sites[site.0].clone());
        let names = names.collect();
        self.planted_as(names);
    }

    /// Says that the whole process has it.
    pub fn planted_in_process(&mut self) {
        self.planted_as(vec!["process".to_owned()]);
    }

    /// Says under which names the plant appears.
    pub fn planted_as(&mut self, names: Vec<String>) {
        let rule = self.rule.expect("only a plant is somewhere");
        self.truth.primary = Some(Planted { rule, sites: names });
    }

    /// Says that another rule may be right as well.
    pub fn also(&mut self, rule: &'static str) {
        self.truth.also.push(rule);
    }

    /// Says that the fix does not make the program faster.
    pub fn no_gain(&mut self) {
        self.truth.has_gain = false;
    }

    /// Says that the rule never says more than "low".
    pub fn only_low(&mut self) {
        self.truth.only_low = true;
    }

    /// Milliseconds, stretched by the scale of this variant.
    pub fn ms(&self, count: f64) -> Duration {
        crate::program::ms(count * self.scale)
    }

    /// A span that computes: as a task in short polls, as a healthy one does.
    pub fn work(&mut self, site: Site, length: Duration) -> Step {
        span(site).run([self.polite(length)])
    }

    /// Computes, as a task in short polls.
    pub fn polite(&self, length: Duration) -> Step {
        if !self.tasks {
            return cpu(length);
        }
        let chunks = (length.as_nanos() / CHUNK.as_nanos()).max(1) as usize;
        let chunk = length / chunks as u32;
        repeat(chunks, |_| Step::Many(vec![cpu(chunk), Step::Yield]))
    }

    /// Puts healthy work around a plant that takes `length`, of which `saved` can vanish, so that this is its share.
    pub fn request_saving(
        &mut self,
        root: Site,
        length: Duration,
        saved: Duration,
        plant: impl IntoIterator<Item = Step>,
    ) -> Step {
        let most = 0.9 * saved.as_secs_f64() / length.as_secs_f64();
        let before = self.share;
        // The share that the whole plant must have, so that what can vanish has the one that was asked for.
        self.share = before.min(most) * length.as_secs_f64() / saved.as_secs_f64();
        let request = self.request(root, length, plant);
        self.share = before;
        request
    }

    /// Puts healthy work around a plant that takes `cost`, so that it has its share of the whole; in spans around.
    pub fn request(
        &mut self,
        root: Site,
        cost: Duration,
        plant: impl IntoIterator<Item = Step>,
    ) -> Step {
        let mut steps = self.healthy_work(cost);
        let at = self.rng.pick(0, steps.len());
        steps.splice(at..at, plant);
        self.wrapped(root, steps)
    }

    /// The healthy work beside a plant that takes `cost`: several sites, none of which is worth a finding.
    pub fn healthy_work(&mut self, cost: Duration) -> Vec<Step> {
        let whole = cost.div_f64(self.share);
        let rest = whole - cost;
        let most = cost.mul_f64(0.4).min(whole.mul_f64(0.08));
        let count = (rest.as_secs_f64() / most.as_secs_f64()).ceil() as usize + self.decoys;
        while self.fillers.len() < count {
            let site = self.site();
            self.fillers.push(site);
        }
        (0..count)
            .map(|at| {
                let length = self.rng.about(rest / count as u32, 0.1);
                self.work(self.fillers[at], length)
            })
            .collect()
    }

    /// A root with as many spans inside one another as this variant has.
    pub fn wrapped(&mut self, root: Site, steps: Vec<Step>) -> Step {
        while self.wrappers.len() < self.depth {
            let site = self.site();
            self.wrappers.push(site);
        }
        let inner = self
            .wrappers
            .iter()
            .fold(Step::Many(steps), |inner, site| span(*site).run([inner]));
        span(root).run([inner])
    }

    /// Requests one after the other.
    pub fn requests(
        &mut self,
        count: usize,
        cost: Duration,
        mut plant: impl FnMut(&mut Scene, usize) -> Vec<Step>,
    ) -> Body {
        let root = self.site();
        let requests: Vec<_> = (0..count)
            .map(|number| {
                let plant = plant(self, number);
                self.request(root, cost, plant)
            })
            .collect();
        self.one_by_one = true;
        body(requests)
    }

    /// Requests as tasks, so many at the same time, in so many rounds.
    pub fn at_once(
        &mut self,
        rounds: usize,
        count: usize,
        cost: Duration,
        mut plant: impl FnMut(&mut Scene) -> Vec<Step>,
    ) -> Body {
        let root = self.site();
        let rounds: Vec<_> = (0..rounds)
            .map(|_| {
                let requests: Vec<_> = (0..count)
                    .map(|_| {
                        let plant = plant(self);
                        body([self.request(root, cost, plant)])
                    })
                    .collect();
                together(How::Tasks, requests)
            })
            .collect();
        body(rounds)
    }
}
