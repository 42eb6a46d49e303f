/* The cost model: how many threads a call uses, and whether they share sequences or hidden units. All of its constants
 * are here; docs/threads.md explains them, and docs/decisions/0014 has the measurements.
 *
 * Short calls start from this model and are then calibrated (pace.h). The bits of a result do not depend on the cut.
 */
#ifndef FASTRNN_CUT_H
#define FASTRNN_CUT_H

#include "../layout.h"
#include "team.h"

/* ---- constants ---- */

enum {
    /* Starting two threads costs about CUT_REGION_WORK multiply-adds, and a barrier of two threads CUT_BARRIER_WORK. A
     * thread must have twice as much work in the whole call, and a member in each step. Groups meet only at the end of
     * the call and need no work at each step. The constants are those of the reference machine; cut_costs scales them.
     */
    CUT_REGION_WORK = 50000,
    CUT_BARRIER_WORK = 11000,
    CUT_REGION_NS = 2000,
    CUT_BARRIER_NS = 400,
    CUT_REGION_THREADS = 16, /* so many threads more double the cost of a region */
    /* A member needs enough independent accumulators to hide the latency of each. */
    CUT_CHAINS_PER_MEMBER = 8,

    /* The least number of sequences for each group, by the size of the recurrent weights: with fewer sequences a thread
     * reads all recurrent weights for little work. Members that share units read a part of the weights each. */
    CUT_SEQUENCES_SMALL = 3,
    CUT_SEQUENCES = 6,
    CUT_SEQUENCES_FAR = 24, /* weights beyond one core's caches are best read once for all threads */

    /* Calls below CUT_WORK_MIN multiply-adds use one thread. Calls above CUT_VECTORS_MAX vector operations are long:
     * they take milliseconds, the cost model is reliable there, and a single losing probe would be noticed. */
    CUT_WORK_MIN = 80000,
    CUT_VECTORS_MAX = 8000000,

    /* The least number of bytes that each thread packs or compares. Fewer bytes than CUT_BYTES_MIN use one thread. */
    CUT_BYTES_PER_THREAD = 256 << 10,
    CUT_BYTES_MIN = 128 << 10,

    /* Pieces of work, where threads take them from a shared counter: the least number of sequences, rows and unit
     * blocks in a piece. Smaller pieces read the weights too often. */
    CUT_PIECE_SEQUENCES = 4,
    CUT_PIECE_ROWS = 24,
    CUT_PIECE_BLOCKS = 2,
    CUT_PIECE_BLOCKS_TRANSPOSED = 8,                    /* of blocks that are parts of the same rows */
    CUT_PIECED_SEQUENCES_MIN = 4 * CUT_PIECE_SEQUENCES, /* per call; fewer sequences are not worth cutting */
};

/* Limits of what a measurement may change, so that a noisy one does no harm. */
static const double cut_cost_least = 0.25, cut_cost_most = 8;

/* The costs of starting two threads and of their barrier on this machine, in those of the reference machine. */
struct cut_costs {
    double region, barrier;
};

/* How the costs grow from two threads to more: each thread more adds a part of a region, and each member and each
 * cluster of a barrier passes on a cache line. */
static inline double cut_region_growth(const double threads) { return 1 + (threads - 2) / CUT_REGION_THREADS; }
static inline double cut_barrier_growth(const int members) {
    return (members <= BARRIER_CLUSTER ? members : BARRIER_CLUSTER + barrier_clusters(members)) / 2.0;
}

static inline double cut_cost(const double ns, const double reference) {
    const double cost = ns / reference;
    return cost < cut_cost_least ? cut_cost_least : cost > cut_cost_most ? cut_cost_most : cost;
}

/* ---- work ---- */

/* The multiply-adds of a forward call, or of a step, with so many rows. */
static inline double cut_work(const struct layout_shape *const s, const int64_t rows) {
    return (double)s->gates * (double)s->H * (double)(s->I + (layout_has_state(s) ? s->units.K : 0)) * (double)rows;
}

/* Whether calibration chooses the cut. */
static inline bool cut_is_short(const struct layout_shape *const s) {
    return cut_work(s, s->rows) / s->vl <= CUT_VECTORS_MAX;
}

static inline int cut_threads_max(const int wanted) { return wanted < TEAM_THREADS_MAX ? wanted : TEAM_THREADS_MAX; }

/* ---- groups and members ---- */

static inline int64_t cut_group_sequences(const struct layout_shape *const s) {
    const double weights = (double)s->gates * (double)s->H * (double)s->units.K * s->real_bytes;
    return weights <= 64 << 10    ? 1
           : weights <= 256 << 10 ? (int)CUT_SEQUENCES_SMALL
           : weights <= 2 << 20   ? (int)CUT_SEQUENCES
                                  : (int)CUT_SEQUENCES_FAR;
}

/* The cut of the model for several threads. */
static inline enum fastrnn_cut cut_of_model(const struct layout_shape *const s) {
    return s->sequences / cut_group_sequences(s) > 1 ? FASTRNN_CUT_BY_SEQUENCES : FASTRNN_CUT_BY_UNITS;
}

/* Groups of threads share the sequences; the members of a group share the units, at least one run of blocks each.
 * Threads beyond groups*members are idle. */
struct cut_split {
    int groups, members;
};

static inline struct cut_split cut_into(const int groups, const int threads, const int64_t blocks) {
    const int members = threads / groups;
    return (struct cut_split){groups, members <= blocks ? members : blocks < 1 ? 1 : (int)blocks};
}

/* The most groups: cut by sequences, each has enough sequences if there are enough for two groups, else one. */
static inline int cut_groups(const struct layout_shape *const s, const enum fastrnn_cut cut, const int threads) {
    const int64_t enough = s->sequences / cut_group_sequences(s);
    const int64_t busy = cut == FASTRNN_CUT_BY_UNITS ? 1 : enough > 1 ? enough : s->sequences;
    return busy < 1 ? 1 : busy < threads ? (int)busy : threads;
}

/* The most groups, or fewer if these would leave more than a quarter of the threads idle and fewer groups use more. */
static inline struct cut_split cut_split(const struct layout_shape *const s, const enum fastrnn_cut cut,
                                         const int threads) {
    const int64_t blocks = layout_shares(s);
    const int most = cut_groups(s, cut, threads);
    struct cut_split best = cut_into(most, threads, blocks);
    if (4 * (threads % most) > threads) {
        for (int groups = most - 1; 2 * groups >= most; groups--) {
            const struct cut_split other = cut_into(groups, threads, blocks);
            best = other.groups * other.members > best.groups * best.members ? other : best;
        }
    }
    return best;
}

/* The largest number of groups of any call, which may get fewer threads than it wants. */
static inline int cut_groups_max(const struct layout_shape *const s, const enum fastrnn_cut cut, const int threads) {
    const int most = cut_threads_max(threads);
    switch (cut) {
    case FASTRNN_CUT_ONE_THREAD:
        return 1;
    case FASTRNN_CUT_AUTO:
        return cut_groups(s, cut_is_short(s) ? FASTRNN_CUT_BY_SEQUENCES : cut_of_model(s), most);
    case FASTRNN_CUT_ALL_THREADS:
        return cut_groups(s, cut_of_model(s), most);
    default:
        return cut_groups(s, cut, most);
    }
}

/* ---- threads ---- */

/* The largest n with n * cut_region_growth(n) <= work. */
static inline double cut_threads_of_region(const double work) {
    const double half = (CUT_REGION_THREADS - 2) / 2.0;
    return __builtin_sqrt(half * half + work * CUT_REGION_THREADS) - half;
}

/* The model counts a barrier for every phase. */
static inline int cut_phases(const struct layout_shape *const s) {
    return s->forward.count > s->backward.count ? s->forward.count : s->backward.count;
}

/* The number of threads that the work keeps busy. A group of m members needs m * m/2 barriers' work twice in each phase
 * of a step, since the cost of a barrier grows with m. */
static inline int cut_threads(const struct layout_shape *const s, const int wanted,
                              const struct cut_costs *const costs) {
    const double sequences = (double)s->sequences;
    const double step_work = (double)s->gates * (double)s->H * (double)s->units.K * sequences;
    const double chains = (double)s->gates * (double)block_count(s->units, s->vl) * sequences;
    const double enough = (double)(s->sequences / cut_group_sequences(s)), groups = enough > 1 ? enough : 1;
    double members = __builtin_sqrt(groups * step_work / (CUT_BARRIER_WORK * costs->barrier * cut_phases(s)));
    members = members < chains / CUT_CHAINS_PER_MEMBER ? members : chains / CUT_CHAINS_PER_MEMBER;
    const double useful = enough > members ? enough : members;
    double threads = cut_threads_of_region(cut_work(s, s->rows) / (2 * CUT_REGION_WORK * costs->region));
    threads = threads < useful ? threads : useful;
    const int most = cut_threads_max(wanted);
    return threads < 2 ? 1 : threads < most ? (int)threads : most;
}

/* The number of threads that pack or compare so many bytes. */
static inline int cut_threads_of_bytes(const double bytes, const int wanted, const struct cut_costs *const costs) {
    const double threads = bytes / (CUT_BYTES_PER_THREAD * costs->region);
    const int most = cut_threads_max(wanted);
    return threads < 2 ? 1 : threads < most ? (int)threads : most;
}

/* Whether groups of one thread can take pieces of the sequences from a shared counter. The buffers of a thread hold
 * chunk_rows rows, and a step of a piece must fit. */
static inline bool cut_has_pieces(const struct layout_shape *const s, const struct cut_split split,
                                  const int64_t chunk_rows) {
    return split.groups > 1 && split.members == 1 && s->sequences >= CUT_PIECED_SEQUENCES_MIN &&
           s->sequences >= 2 * (int64_t)split.groups * CUT_PIECE_SEQUENCES && s->sequences <= chunk_rows;
}

#endif
