/* Runs the threads of a block as fibers of the calling OS thread.
 *
 * A stack runs one thread after the other until one has to wait; that thread keeps the stack, and
 * another stack goes on. Threads that never wait thus share one stack and cost no switch. Which
 * ready thread goes next is the order's choice: the first, the last, or a pseudo-random one. */
#include "emulator.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(__x86_64__) || defined(LA_EMULATED_UCONTEXT)
#define LA_EMULATED_USES_UCONTEXT 1
#include <ucontext.h>
#endif
#ifdef LA_EMULATED_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
unsigned char *la_emulated_dynamic_shared;
unsigned la_emulated_rank;

/* ---- contexts ---- */

#ifdef LA_EMULATED_USES_UCONTEXT
typedef ucontext_t context;
static void context_switch(context *from, context *to) {
    swapcontext(from, to);
}
#else
/* The stack pointer: everything else a function call has to preserve is on the stack. */
typedef void *context;
extern "C" void la_emulated_switch(void **from, void *to);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl la_emulated_switch\n"
        ".hidden la_emulated_switch\n"
        ".type la_emulated_switch, @function\n"
        "la_emulated_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        /* a return would always be predicted wrong */
        "    popq %rcx\n"
        "    jmpq *%rcx\n"
        ".size la_emulated_switch, . - la_emulated_switch\n");
static void context_switch(context *from, context *to) {
    la_emulated_switch(from, *to);
}
#endif

#ifdef LA_EMULATED_ASAN
static const size_t STACK_BYTES = 512 << 10;
#else
static const size_t STACK_BYTES = 128 << 10;
#endif

struct stack {
    unsigned char *base;
    size_t bytes;
    context start;
};

enum thread_state : unsigned char { READY, AT_BARRIER, AT_COLLECTIVE, EXITED };

struct fiber {
    context at;
    stack *on; /* NULL before it starts */
    uint3 index;
    thread_state state;
    la_emulated_site site; /* where it waits */
    /* arguments of a collective */
    unsigned mask;
    int source;
    bool predicate;
    uint64_t value, result;
    /* digest of the warp operations it has passed */
    uint64_t passed;
    void *fake_stack; /* ASan's */
};

enum { THREADS_MAX = 1024, WARPS_MAX = THREADS_MAX / 32 };

struct warp {
    unsigned exists, ready, waiting; /* lanes */
};

/* The block that runs. Guarded by the emulator's lock. */
static struct {
    const la_emulated_shape *shape;
    la_emulated_body *body;
    unsigned threads, exited;
    fiber fibers[THREADS_MAX];
    warp warps[WARPS_MAX];
    unsigned ready_warps;
    unsigned current; /* thread */
    /* barrier */
    unsigned arrived, first_arrived;
    int vote, vote_result;
    bool passes; /* some thread passed a warp operation */
    context main;
    stack *main_stack; /* the main stack, for ASan */
    std::vector<stack *> stacks;
    la_emulated_order_kind order;
    uint64_t random;
    unsigned long long switches;
    bool running;
} run;

static uint32_t next_random() {
    run.random = run.random * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<uint32_t>(run.random >> 33);
}

/* ---- complaints ---- */

static void print_place(FILE *out) {
    if (!run.running)
        return;
    fprintf(out, "kernel %s, block (%u,%u,%u), ", run.shape->name, blockIdx.x, blockIdx.y,
            blockIdx.z);
}

void la_emulated_abort(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "emulated device: ");
    print_place(stderr);
    if (run.running)
        fprintf(stderr, "thread (%u,%u,%u): ", threadIdx.x, threadIdx.y, threadIdx.z);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    fflush(stderr);
    abort();
}

static bool same_site(const la_emulated_site &a, const la_emulated_site &b) {
    return a.what == b.what && a.file == b.file && a.line == b.line;
}

/* All remaining threads wait: prints which thread waits where, and aborts. */
[[noreturn]] static void abort_stuck() {
    fprintf(stderr, "emulated device: ");
    print_place(stderr);
    fprintf(stderr, "divergence: ");
    if (run.exited)
        fprintf(stderr, "%u of %u threads have returned, ", run.exited, run.threads);
    fprintf(stderr, "the others wait for ever:\n");
    int lines = 0;
    const fiber *shown = nullptr;
    unsigned shown_warp = 0;
    for (unsigned t = 0; t < run.threads && lines < 8; t++) {
        const fiber &f = run.fibers[t];
        if (f.state == EXITED || f.state == READY)
            continue;
        /* one line for those that wait for the same */
        if (shown && shown->state == f.state && same_site(shown->site, f.site) &&
            (f.state == AT_BARRIER || (shown->mask == f.mask && shown_warp == t / 32)))
            continue;
        shown = &f;
        shown_warp = t / 32;
        fprintf(stderr, "  thread (%u,%u,%u) ff. in %s at %s:%d", f.index.x, f.index.y, f.index.z,
                f.site.what, f.site.file, f.site.line);
        if (f.state == AT_COLLECTIVE)
            fprintf(stderr, ", lane mask 0x%08x, of which 0x%08x came", f.mask,
                    f.mask & run.warps[t / 32].waiting);
        fprintf(stderr, "\n");
        lines++;
    }
    fflush(stderr);
    abort();
}

/* Lanes that meet have to have passed the same warp operations. */
static void check_passed(unsigned in_warp, unsigned lanes) {
    const fiber *first = &run.fibers[in_warp * 32];
    int leader = __builtin_ctz(lanes);
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (first[lane].passed != first[leader].passed)
            la_emulated_abort("divergence: lanes %d and %d of warp %u did not pass the same matrix "
                              "operations (load_matrix_sync, mma_sync, store_matrix_sync)",
                              leader, lane, in_warp);
    }
}

/* ---- stacks ---- */

static void worker();

#ifdef LA_EMULATED_USES_UCONTEXT
static void stack_prepare(stack *s, size_t) {
    getcontext(&s->start);
    s->start.uc_stack.ss_sp = s->base;
    s->start.uc_stack.ss_size = s->bytes;
    s->start.uc_link = nullptr;
    makecontext(&s->start, worker, 0);
}
#else
static void stack_prepare(stack *s, size_t colour) {
    /* Tops at one distance modulo a large power of two would share their cache lines. */
    unsigned char *top = s->base + s->bytes - colour % 61 * 192;
    void **sp = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
    *--sp = nullptr; /* where a return address would be */
    *--sp = reinterpret_cast<void *>(worker);
    for (int saved = 0; saved < 6; saved++)
        *--sp = nullptr;
    s->start = sp;
}
#endif

static stack *stack_new() {
    size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void *memory = mmap(nullptr, STACK_BYTES + guard, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0)
        la_emulated_abort("no memory for a thread's stack");
    /* its description is kept at its upper end */
    unsigned char *end = static_cast<unsigned char *>(memory) + guard + STACK_BYTES;
    stack *s = new (end - (sizeof(stack) + 63) / 64 * 64) stack;
    s->base = static_cast<unsigned char *>(memory) + guard;
    s->bytes = static_cast<size_t>(reinterpret_cast<unsigned char *>(s) - s->base);
    return s;
}

static stack *stack_take() {
    stack *s;
    if (run.stacks.empty()) {
        s = stack_new();
    } else {
        s = run.stacks.back();
        run.stacks.pop_back();
    }
#ifdef LA_EMULATED_ASAN
    __asan_unpoison_memory_region(s->base, s->bytes);
#endif
    stack_prepare(s, reinterpret_cast<uintptr_t>(s->base) / STACK_BYTES);
    return s;
}

/* ---- switching ---- */

/* Next ready thread; -1: none. */
static int pick() {
    unsigned warps = run.ready_warps;
    if (!warps)
        return -1;
    unsigned w, lane;
    switch (run.order) {
    case LA_EMULATED_FORWARD:
        w = static_cast<unsigned>(__builtin_ctz(warps));
        lane = static_cast<unsigned>(__builtin_ctz(run.warps[w].ready));
        break;
    case LA_EMULATED_REVERSE:
        w = 31 - static_cast<unsigned>(__builtin_clz(warps));
        lane = 31 - static_cast<unsigned>(__builtin_clz(run.warps[w].ready));
        break;
    default: {
        /* the first at or after a random place */
        uint32_t r = next_random();
        unsigned turn = r & 31, lane_turn = r >> 5 & 31;
        unsigned turned = turn ? warps >> turn | warps << (32 - turn) : warps;
        w = (static_cast<unsigned>(__builtin_ctz(turned)) + turn) & 31;
        unsigned ready = run.warps[w].ready;
        turned = lane_turn ? ready >> lane_turn | ready << (32 - lane_turn) : ready;
        lane = (static_cast<unsigned>(__builtin_ctz(turned)) + lane_turn) & 31;
        break;
    }
    }
    return static_cast<int>(w * 32 + lane);
}

static void set_ready(unsigned in_warp, unsigned lanes) {
    run.warps[in_warp].ready |= lanes;
    run.ready_warps |= 1u << in_warp;
}

static void set_not_ready(unsigned thread) {
    warp &w = run.warps[thread / 32];
    w.ready &= ~(1u << thread % 32);
    if (!w.ready)
        run.ready_warps &= ~(1u << thread / 32);
}

static void become(unsigned thread) {
    run.current = thread;
    la_emulated_rank = thread;
    threadIdx = run.fibers[thread].index;
}

/* Leaves the context from for another, on stack to; dead: for good. */
static void leave(context *from, context *to, void **fake_stack, const stack *to_stack, bool dead) {
    run.switches++;
#ifdef LA_EMULATED_ASAN
    __sanitizer_start_switch_fiber(dead ? nullptr : fake_stack, to_stack->base, to_stack->bytes);
#endif
    context_switch(from, to);
#ifdef LA_EMULATED_ASAN
    __sanitizer_finish_switch_fiber(*fake_stack, nullptr, nullptr);
#endif
    (void)fake_stack;
    (void)to_stack;
    (void)dead;
}

/* The running thread, which waits for something, lets others run until it is ready and picked. */
static void wait() {
    unsigned self = run.current;
    int next = pick();
    if (next < 0)
        abort_stuck();
    if (static_cast<unsigned>(next) == self)
        return;
    fiber &mine = run.fibers[self], &theirs = run.fibers[next];
    become(static_cast<unsigned>(next));
    if (theirs.on) {
        leave(&mine.at, &theirs.at, &mine.fake_stack, theirs.on, false);
    } else {
        stack *s = stack_take();
        theirs.on = s;
        leave(&mine.at, &s->start, &mine.fake_stack, s, false);
    }
}

/* Bottom of every stack: runs the current thread, then others that have not started. Never
 * returns. */
static void worker() {
#ifdef LA_EMULATED_ASAN
    const void *bottom = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (!run.main_stack->base) {
        run.main_stack->base = static_cast<unsigned char *>(const_cast<void *>(bottom));
        run.main_stack->bytes = bytes;
    }
#endif
    stack *mine = run.fibers[run.current].on;
    static context nowhere;
    void *no_fake_stack = nullptr;
    for (;;) {
        run.body->run();
        unsigned self = run.current;
        run.fibers[self].state = EXITED;
        run.exited++;
        set_not_ready(self);
        int next = pick();
        if (next >= 0 && !run.fibers[next].on) {
            become(static_cast<unsigned>(next));
            run.fibers[next].on = mine;
            continue;
        }
        if (next < 0 && run.exited < run.threads)
            abort_stuck();
        /* nothing is written to this stack any more, apart from the registers that are saved on
         * leaving it */
        run.stacks.push_back(mine);
        if (next < 0) {
            leave(&nowhere, &run.main, &no_fake_stack, run.main_stack, true);
        } else {
            become(static_cast<unsigned>(next));
            leave(&nowhere, &run.fibers[next].at, &no_fake_stack, run.fibers[next].on, true);
        }
    }
}

/* ---- what threads wait for ---- */

int la_emulated_barrier_vote(la_emulated_site site, la_emulated_vote vote, int predicate) {
    fiber &mine = run.fibers[run.current];
    if (run.arrived == 0) {
        run.vote = vote == LA_EMULATED_AND;
        run.first_arrived = run.current;
    } else {
        const fiber &other = run.fibers[run.first_arrived];
        if (!same_site(other.site, site))
            la_emulated_abort("divergence: it is in %s at %s:%d while thread (%u,%u,%u) waits in "
                              "%s at %s:%d",
                              site.what, site.file, site.line, other.index.x, other.index.y,
                              other.index.z, other.site.what, other.site.file, other.site.line);
    }
    if (vote == LA_EMULATED_AND)
        run.vote = run.vote && predicate;
    else if (vote == LA_EMULATED_OR)
        run.vote = run.vote || predicate;
    else
        run.vote += predicate != 0;
    mine.site = site;
    mine.state = AT_BARRIER;
    set_not_ready(run.current);
    if (++run.arrived == run.threads) {
        run.arrived = 0;
        run.vote_result = run.vote;
        for (unsigned t = 0; t < run.threads; t++)
            run.fibers[t].state = READY;
        for (unsigned w = 0; w * 32 < run.threads; w++) {
            set_ready(w, run.warps[w].exists);
            if (run.passes)
                check_passed(w, run.warps[w].exists);
        }
    }
    wait();
    return run.vote_result;
}

void la_emulated_barrier(la_emulated_site site) {
    la_emulated_barrier_vote(site, LA_EMULATED_OR, 0);
}

/* Meets the other lanes of the mask. The last to come works out everybody's result. */
static void meet(const la_emulated_site &site, unsigned mask, bool votes) {
    unsigned self = run.current, in_warp = self / 32;
    warp &w = run.warps[in_warp];
    fiber *lanes = &run.fibers[in_warp * 32], &mine = run.fibers[self];
    if (!(mask >> self % 32 & 1))
        la_emulated_abort("%s at %s:%d: its own lane is not in the mask 0x%08x", site.what,
                          site.file, site.line, mask);
    mine.site = site;
    mine.mask = mask;
    mine.state = AT_COLLECTIVE;
    w.waiting |= 1u << self % 32;
    set_not_ready(self);
    unsigned expected = mask & w.exists;
    if ((w.waiting & expected) == expected) {
        unsigned ballot = 0;
        for (unsigned rest = expected; rest; rest &= rest - 1) {
            fiber &lane = lanes[__builtin_ctz(rest)];
            if (lane.mask != mask || !same_site(lane.site, site))
                la_emulated_abort("divergence: %s at %s:%d with mask 0x%08x, while lane %d is in "
                                  "%s at %s:%d with mask 0x%08x",
                                  site.what, site.file, site.line, mask, __builtin_ctz(rest),
                                  lane.site.what, lane.site.file, lane.site.line, lane.mask);
            ballot |= lane.predicate ? rest & -rest : 0;
        }
        for (unsigned rest = expected; rest; rest &= rest - 1) {
            fiber &lane = lanes[__builtin_ctz(rest)];
            lane.state = READY;
            if (votes)
                lane.result = ballot;
            else
                lane.result = expected >> lane.source & 1 ? lanes[lane.source].value : ~0ull;
        }
        if (run.passes)
            check_passed(in_warp, expected);
        w.waiting &= ~expected;
        set_ready(in_warp, expected);
    }
    wait();
}

uint64_t la_emulated_exchange(la_emulated_site site, unsigned mask, uint64_t value, int source) {
    fiber &mine = run.fibers[run.current];
    mine.value = value;
    mine.source = source & 31;
    mine.predicate = false;
    meet(site, mask, false);
    return mine.result;
}

unsigned la_emulated_ballot(la_emulated_site site, unsigned mask, bool predicate) {
    fiber &mine = run.fibers[run.current];
    mine.predicate = predicate;
    meet(site, mask, true);
    return static_cast<unsigned>(mine.result);
}

void la_emulated_pass(la_emulated_site site) {
    fiber &mine = run.fibers[run.current];
    run.passes = true;
    uint64_t what = reinterpret_cast<uintptr_t>(site.what) + static_cast<uint64_t>(site.line);
    mine.passed = (mine.passed ^ what) * 0x9e3779b97f4a7c15ull + 1;
}

/* ---- blocks ---- */

static void run_block(const dim3 &block) {
    unsigned t = 0;
    for (unsigned z = 0; z < block.z; z++)
        for (unsigned y = 0; y < block.y; y++)
            for (unsigned x = 0; x < block.x; x++, t++) {
                fiber &f = run.fibers[t];
                f.index = {x, y, z};
                f.state = READY;
                f.on = nullptr;
                f.passed = 0;
                f.fake_stack = nullptr;
            }
    run.threads = t;
    run.exited = run.arrived = run.ready_warps = 0;
    run.passes = false;
    for (unsigned w = 0; w * 32 < t; w++) {
        run.warps[w].exists = t - w * 32 >= 32 ? ~0u : (1u << (t - w * 32)) - 1;
        run.warps[w].ready = run.warps[w].waiting = 0;
        set_ready(w, run.warps[w].exists);
    }
    unsigned first = static_cast<unsigned>(pick());
    stack *s = stack_take();
    run.fibers[first].on = s;
    become(first);
    void *fake_stack = nullptr;
    leave(&run.main, &s->start, &fake_stack, s, false);
    if (run.passes)
        for (unsigned w = 0; w * 32 < t; w++)
            check_passed(w, run.warps[w].exists);
}

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

void la_emulated_run_grid(const la_emulated_shape &shape, la_emulated_body &body) {
    uint64_t blocks = static_cast<uint64_t>(shape.grid.x) * shape.grid.y * shape.grid.z;
    stack main_stack = {};
    run.shape = &shape;
    run.body = &body;
    run.order = la_emulated_order();
    run.random = 0x853c49e6748fea9bull ^ blocks;
    run.main_stack = &main_stack;
    run.running = true;
    blockDim = shape.block;
    gridDim = shape.grid;
    std::vector<la_emulated_span> shared = la_emulated_static_shared(shape.kernel);
    /* exactly as long as asked for: an overrun is ASan's to see. Aligned as on devices, where it
     * starts a window of its own in kernels without static shared memory. */
    void *dynamic = nullptr;
    if (shape.shared_bytes && posix_memalign(&dynamic, 128, shape.shared_bytes) != 0)
        la_emulated_abort("no memory for its shared memory");
    la_emulated_dynamic_shared = static_cast<unsigned char *>(dynamic);
    /* shuffled: block i is number stride i + offset, modulo the number of blocks */
    uint64_t stride = blocks * 618 / 1000 | 1;
    while (greatest_common_divisor(stride, blocks) != 1)
        stride += 2;
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t b = i;
        if (run.order == LA_EMULATED_REVERSE)
            b = blocks - 1 - i;
        else if (run.order == LA_EMULATED_SHUFFLE)
            b = (i * stride + blocks / 3) % blocks;
        blockIdx.x = static_cast<unsigned>(b % shape.grid.x);
        blockIdx.y = static_cast<unsigned>(b / shape.grid.x % shape.grid.y);
        blockIdx.z = static_cast<unsigned>(b / shape.grid.x / shape.grid.y);
        for (const la_emulated_span &span : shared)
            memset(span.at, 0xff, span.bytes);
        if (dynamic)
            memset(dynamic, 0xff, shape.shared_bytes);
        run_block(shape.block);
    }
    run.running = false;
    la_emulated_dynamic_shared = nullptr;
    free(dynamic);
}

unsigned long long la_emulated_switches(void) {
    la_emulated_guard guard(la_emulated_mutex());
    return run.switches;
}
