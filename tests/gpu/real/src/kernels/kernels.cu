// Nothing but arithmetic: each thread goes on from its own number.
extern "C" __global__ void compute_bound(float *out, unsigned rounds) {
    float a = threadIdx.x * 0.001f;
    for (unsigned i = 0; i < rounds; i++) {
        a = fmaf(a, 0.999f, 0.001f);
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = a;
}

// Nothing but memory: two streams in, one out.
extern "C" __global__ void memory_bound(float *out, const float *x, const float *y, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        out[i] = x[i] + 3.0f * y[i];
    }
}

// Nothing.
extern "C" __global__ void tiny() {}
