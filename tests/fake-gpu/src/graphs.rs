//! Graphs of kernels that run one after the other.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::activities::{GRAPH_TRACE, KERNEL, KERNEL_SERIAL, Node, Record};
use crate::callbacks::Call;
use crate::clock;
use crate::errors::{INVALID_HANDLE, Outcome};
use crate::knobs::{self, Knob};
use crate::launch::{Function, Shape, function};
use crate::state::lock;

/// A handle is the address of a graph that lives on.
struct Graph {
    id: u32,
    functions: Vec<&'static Function>,
}

const SHAPE: Shape = Shape {
    grid: [1; 3],
    block: [32, 1, 1],
    shared_bytes: 0,
};

unsafe fn launch(call: Call, graph: usize, stream: usize) -> Outcome {
    let graph = (graph as *const Graph).as_ref().ok_or(INVALID_HANDLE)?;
    let now = clock::now();
    {
        let mut state = lock();
        let stream = state.stream(stream)?;
        let device = state.streams[stream].device;
        if state.is_captured(stream) {
            return Ok(());
        }
        let gap = knobs::get(Knob::NODE_GAP_NS).max(0) as u64;
        let durations = graph
            .functions
            .iter()
            .map(|function| function.duration.load(Relaxed) + gap);
        let total = durations.sum::<u64>().saturating_sub(gap);
        let (start, end) = state.schedule(stream, now, total);
        if state.wants(KERNEL) || state.wants(KERNEL_SERIAL) {
            let mut from = start;
            for (number, function) in graph.functions.iter().enumerate() {
                let to = from + function.duration.load(Relaxed);
                let node = Node {
                    graph: graph.id,
                    node: (u64::from(graph.id) << 32) | (number as u64 + 1),
                };
                let times = (from, to);
                let record = Record::kernel(
                    function,
                    SHAPE,
                    times,
                    call.correlation,
                    device,
                    stream,
                    Some(node),
                );
                state.push(record);
                from = to + gap;
            }
        } else if state.wants(GRAPH_TRACE) {
            let record = Record::graph(graph.id, (start, end), call.correlation, device, stream);
            state.push(record);
        }
        state.count_launch(now);
    }
    crate::buffers::supply();
    Ok(())
}

traced! {
    514 => fn cuGraphLaunch(graph: usize, stream: usize), |call| {
        launch(call, graph, stream)
    }

    515 => fn cuGraphLaunch_ptsz(graph: usize, stream: usize), |call| {
        launch(call, graph, if stream == 0 { 2 } else { stream })
    }
}

exported! {
    fn fakeGraph(functions: *const usize, count: usize) -> usize {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let handles = std::slice::from_raw_parts(functions, count);
        let graph = Graph {
            id: NEXT.fetch_add(1, Relaxed),
            functions: handles.iter().filter_map(|handle| function(*handle)).collect(),
        };
        std::ptr::from_ref(Box::leak(Box::new(graph))) as usize
    }
}
