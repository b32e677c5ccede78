/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coroutines are started by makecontext on stacks that are used again; the switch itself is
 * _setjmp/_longjmp, which, unlike swapcontext, makes no system call. Under a sanitizer swapcontext
 * does it all.
 */
#undef _FORTIFY_SOURCE /* longjmp to another stack is what this is about */
#include "tests/sim/fiber.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK_BYTES ((size_t)256 * 1024)
#define FIBERS_MAX 512

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PLAIN_SWITCH 0
#else
#define PLAIN_SWITCH 1
#endif

struct fiber {
    struct proc *proc; /* NULL: free */
    void (*fn)(void *arg);
    void *arg;
    uint32_t gen; /* of its newest reason to sleep: older events are stale */
    bool begun, woken;
    struct waitq *waits;
    struct fiber *next_waiting;
    char *stack;
    ucontext_t context;
    jmp_buf jump;
};

struct event {
    int64_t at;
    uint64_t order;
    struct fiber *fiber; /* or */
    uint32_t gen;
    void (*fn)(void *arg);
    void *arg;
};

static struct {
    struct fiber fibers[FIBERS_MAX];
    struct fiber *self;
    struct event *heap;
    size_t n, cap;
    int64_t now;
    uint64_t rand[2], handled;
    int procs;
    ucontext_t main_context;
    jmp_buf main_jump;
} s;

/* Chance: xoroshiro128+ ------------------------------------------------------------------------*/

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15U;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    return z ^ z >> 31;
}

uint64_t sim_rand(void)
{
    uint64_t a = s.rand[0], b = s.rand[1], sum = a + b;

    b ^= a;
    s.rand[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
    s.rand[1] = b << 37 | b >> 27;
    return sum;
}

int64_t sim_range(int64_t low, int64_t high)
{
    return high <= low ? low : low + (int64_t)(sim_rand() >> 11) % (high - low + 1);
}

bool sim_chance(double p)
{
    return p > 0 && (double)(sim_rand() >> 11) * 0x1.0p-53 < p;
}

/* Events ----------------------------------------------------------------------------------------*/

static bool sooner(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct event e)
{
    if (s.n == s.cap) {
        s.cap = s.cap ? s.cap * 2 : 1024;
        s.heap = realloc(s.heap, s.cap * sizeof(*s.heap));
        if (!s.heap) {
            abort();
        }
    }
    e.order = sim_rand() >> 1; /* what happens at the same moment happens in any order */
    size_t i = s.n++;
    while (i > 0 && sooner(&e, &s.heap[(i - 1) / 2])) {
        s.heap[i] = s.heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s.heap[i] = e;
}

static struct event pop(void)
{
    struct event top = s.heap[0], last = s.heap[--s.n];
    size_t i = 0;

    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= s.n) {
            break;
        }
        c += c + 1 < s.n && sooner(&s.heap[c + 1], &s.heap[c]) ? 1 : 0;
        if (!sooner(&s.heap[c], &last)) {
            break;
        }
        s.heap[i] = s.heap[c];
        i = c;
    }
    if (s.n > 0) {
        s.heap[i] = last;
    }
    return top;
}

/* Switching -------------------------------------------------------------------------------------*/

static void to_main(struct fiber *f)
{
#if PLAIN_SWITCH
    if (_setjmp(f->jump) == 0) {
        _longjmp(s.main_jump, 1);
    }
#else
    swapcontext(&f->context, &s.main_context);
#endif
}

static void entry(void)
{
    struct fiber *f = s.self;

    f->fn(f->arg);
    f->proc = NULL;
    f->gen++;
    to_main(f);
    abort();
}

static void begin(struct fiber *f)
{
    f->begun = true;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = NULL;
    makecontext(&f->context, entry, 0);
#if PLAIN_SWITCH
    setcontext(&f->context);
#else
    swapcontext(&s.main_context, &f->context);
#endif
}

static void resume(struct fiber *f)
{
    s.self = f;
#if PLAIN_SWITCH
    if (_setjmp(s.main_jump) == 0) {
        if (f->begun) {
            _longjmp(f->jump, 1);
        }
        begin(f);
    }
#else
    if (f->begun) {
        swapcontext(&s.main_context, &f->context);
    } else {
        begin(f);
    }
#endif
    s.self = NULL;
}

/* Processes -------------------------------------------------------------------------------------*/

void fiber_reset(uint64_t seed)
{
    for (int i = 0; i < FIBERS_MAX; i++) {
        s.fibers[i].proc = NULL;
        s.fibers[i].gen++;
        s.fibers[i].waits = NULL;
    }
    s.n = 0;
    s.now = 3600 * SECOND;
    s.rand[0] = splitmix(&seed);
    s.rand[1] = splitmix(&seed);
    s.procs = 0;
    s.handled = 0;
    s.self = NULL;
}

int64_t fiber_now(void)
{
    return s.now;
}

uint64_t fiber_events(void)
{
    return s.handled;
}

struct proc *proc_self(void)
{
    return s.self ? s.self->proc : NULL;
}

void proc_start(struct proc *proc, void *owner)
{
    *proc = (struct proc){.id = s.procs++, .alive = true, .owner = owner};
}

static void leave_queue(struct fiber *f)
{
    if (!f->waits) {
        return;
    }
    for (struct fiber **p = &f->waits->first; *p; p = &(*p)->next_waiting) {
        if (*p == f) {
            *p = f->next_waiting;
            break;
        }
    }
    f->waits = NULL;
}

void proc_kill(struct proc *proc)
{
    struct fiber *self = s.self;

    proc->alive = false;
    for (int i = 0; i < FIBERS_MAX; i++) {
        if (s.fibers[i].proc == proc) {
            leave_queue(&s.fibers[i]);
            s.fibers[i].proc = NULL;
            s.fibers[i].gen++;
        }
    }
    if (self && self->proc == NULL) {
        to_main(self); /* for ever */
        abort();
    }
}

void proc_stop(struct proc *proc, int64_t us)
{
    if (s.now + us > proc->stopped_until) {
        proc->stopped_until = s.now + us;
    }
}

/* Coroutines ------------------------------------------------------------------------------------*/

void fiber_start(struct proc *proc, void (*fn)(void *arg), void *arg)
{
    for (int i = 0; i < FIBERS_MAX; i++) {
        struct fiber *f = &s.fibers[i];
        if (f->proc || f == s.self) {
            continue;
        }
        if (!f->stack) {
            f->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
            if (f->stack == MAP_FAILED || mprotect(f->stack, 4096, PROT_NONE) < 0) {
                abort();
            }
        }
        f->proc = proc;
        f->fn = fn;
        f->arg = arg;
        f->begun = false;
        f->waits = NULL;
        push((struct event){.at = s.now, .fiber = f, .gen = ++f->gen});
        return;
    }
    fprintf(stderr, "sim: too many coroutines\n");
    abort();
}

void fiber_sleep(int64_t us)
{
    struct fiber *f = s.self;

    push((struct event){.at = s.now + (us > 0 ? us : 0), .fiber = f, .gen = ++f->gen});
    to_main(f);
}

bool fiber_wait(struct waitq *queue, int64_t us)
{
    struct fiber *f = s.self;

    f->woken = false;
    f->waits = queue;
    f->next_waiting = queue->first;
    queue->first = f;
    push((struct event){.at = s.now + us, .fiber = f, .gen = ++f->gen});
    to_main(f);
    leave_queue(f);
    return f->woken;
}

void fiber_wake(struct waitq *queue)
{
    while (queue->first) {
        struct fiber *f = queue->first;
        queue->first = f->next_waiting;
        f->waits = NULL;
        f->woken = true;
        push((struct event){.at = s.now, .fiber = f, .gen = ++f->gen});
    }
}

void fiber_at(int64_t us_from_now, void (*fn)(void *arg), void *arg)
{
    push((struct event){.at = s.now + us_from_now, .fn = fn, .arg = arg});
}

static void handle(const struct event *e)
{
    struct fiber *f = e->fiber;

    if (!f) {
        e->fn(e->arg);
    } else if (f->proc && f->gen == e->gen) {
        if (f->proc->stopped_until > s.now) {
            push((struct event){.at = f->proc->stopped_until, .fiber = f, .gen = f->gen});
        } else {
            resume(f);
        }
    }
}

bool fiber_run(int64_t until, bool (*step)(void))
{
    while (s.n > 0 && s.heap[0].at <= until) {
        struct event e = pop();
        s.now = e.at > s.now ? e.at : s.now;
        s.handled++;
        handle(&e);
        if (!step()) {
            return false;
        }
    }
    s.now = until;
    return true;
}
