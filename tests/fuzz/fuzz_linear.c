/* A fuzz target for fastrnn_run_linear. An input is a call with tensors of all kinds of strides. Sound calls must give
 * the bits of the plain loops here, on one thread and on several, and write nothing else; all others must be refused.
 */
#include <math.h>

#include "required.h"

/* A (T, B, H) tensor in memory of its own; a matrix has T = 1. Strides and `first`, the place of element (0, 0, 0),
 * count reals. */
struct elements {
    unsigned char *block; /* null: absent */
    size_t bytes;
    int64_t n[3];
    ptrdiff_t first, stride[3];
};

enum tensor_name { A, B, H0, DH, H, DA, DB, DH0, NAMES };
enum { INPUTS = H };

struct call {
    struct fastrnn_linear c;
    struct elements tensors[NAMES]; /* of inputs: with memory; of outputs: layouts */
    bool wanted[NAMES];
    bool has_fma, keeps_last; /* keeps_last: h has stride_t 0 */
};

/* The outputs of a call. */
struct outputs {
    struct elements tensors[NAMES];
};

/* ---- inputs ---- */

/* The axes in any order, forwards or backwards, with gaps; of an input, some axes repeat one value. */
static struct elements draw_elements(struct bytes *const from, const enum fastrnn_dtype dtype, const int64_t T,
                                     const int64_t B_, const int64_t H_, const bool is_input) {
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const uint8_t kind = draw_byte(from), repeats = is_input ? draw_byte(from) : 0;
    struct elements x = {.n = {T, B_, H_}};
    const int *const order = orders[kind % 6];
    ptrdiff_t stride = 1 + (kind / 6) % 2;
    ptrdiff_t last = 0;
    for (int j = 2; j >= 0; j--) {
        const int axis = order[j];
        const bool is_repeated = repeats >> 4 && repeats >> axis & 1;
        const bool is_backwards = repeats % 16 == 0 && (kind >> axis & 1);
        x.stride[axis] = is_repeated ? 0 : is_backwards ? -stride : stride;
        if (!is_repeated && x.n[axis] > 0) {
            last += (x.n[axis] - 1) * stride;
            x.first += is_backwards ? (x.n[axis] - 1) * stride : 0;
            stride *= x.n[axis] + (kind / 12) % 2;
        }
    }
    x.bytes = T && B_ && H_ ? (size_t)(last + 1) * real_bytes(dtype) : 0;
    return x;
}

static int64_t draw_size(struct bytes *const from, const int64_t most, const int64_t rarely) {
    return draw_byte(from) % 16 == 15 ? draw_below(from, rarely) : draw_below(from, most);
}

static void draw_order(struct bytes *const from, struct fastrnn_linear *const c) {
    c->direction = draw_bit(from) ? FASTRNN_FROM_LAST_STEP : FASTRNN_FROM_FIRST_STEP;
    if (draw_byte(from) % 4 == 3) {
        int64_t *const lengths = take_integers(c->B);
        for (int64_t b = 0; b < c->B; b++) {
            lengths[b] = draw_below(from, c->T + 1);
        }
        c->lengths = lengths;
    }
    if (draw_byte(from) % 4 == 3) {
        const bool batch_first = draw_bit(from);
        unsigned char *const resets = take((size_t)(c->T * c->B));
        for (int64_t j = 0; j < c->T * c->B; j++) {
            resets[j] = draw_byte(from) % 8 > 4;
        }
        c->resets = resets;
        c->resets_stride_t = batch_first ? 1 : c->B;
        c->resets_stride_b = batch_first ? c->T : 1;
    }
}

static struct call draw_call(struct bytes *const from) {
    struct call d = {.c = {.struct_size = sizeof(struct fastrnn_linear), .threads = 1}};
    struct fastrnn_linear *const c = &d.c;
    const int backend = (int)draw_below(from, fastrnn_backend_count());
    c->backend = fastrnn_backend_runs_here(backend) ? backend : fastrnn_best_backend();
    d.has_fma = fastrnn_backend_has_fma(c->backend);
    c->dtype = (enum fastrnn_dtype)draw_below(from, FASTRNN_DTYPE_COUNT);
    c->T = draw_size(from, 6, 70), c->B = draw_size(from, 5, 20), c->H = draw_size(from, 7, 200);
    draw_order(from, c);
    for (enum tensor_name j = 0; j < NAMES; j++) {
        const bool is_state = j == H0 || j == DH0;
        d.tensors[j] = draw_elements(from, c->dtype, is_state ? 1 : c->T, c->B, c->H, j < INPUTS);
        d.wanted[j] = (j != H0 && j != DA && j != DH0) || draw_byte(from) % 4;
        if (j < INPUTS && d.wanted[j]) {
            d.tensors[j].block = take(d.tensors[j].bytes);
            draw_numbers(from, c->dtype, d.tensors[j].block, d.tensors[j].bytes);
        }
    }
    d.keeps_last = draw_byte(from) % 16 == 15;
    if (d.keeps_last) {
        d.tensors[H] = draw_elements(from, c->dtype, 1, c->B, c->H, false);
        d.tensors[H].stride[0] = 0;
        d.tensors[H].bytes = c->T ? d.tensors[H].bytes : 0;
        d.wanted[DA] = false;
    }
    return d;
}

/* ---- the plain loops ---- */

static double number_at(const struct elements *const x, const enum fastrnn_dtype dtype, const int64_t t,
                        const int64_t b, const int64_t j) {
    const ptrdiff_t place = x->first + t * x->stride[0] + b * x->stride[1] + j * x->stride[2];
    return dtype == FASTRNN_F32 ? (double)((const float *)x->block)[place] : ((const double *)x->block)[place];
}

static void put_number(const struct elements *const x, const enum fastrnn_dtype dtype, const int64_t t, const int64_t b,
                       const int64_t j, const double value) {
    const ptrdiff_t place = x->first + t * x->stride[0] + b * x->stride[1] + j * x->stride[2];
    if (dtype == FASTRNN_F32) {
        ((float *)x->block)[place] = (float)value;
    } else {
        ((double *)x->block)[place] = value;
    }
}

/* a*b + c with one rounding, or two without FMA; numbers of float are exact as double. */
static double multiply_add(const struct call *const d, const double a, const double b, const double c) {
    if (d->c.dtype == FASTRNN_F32) {
        return d->has_fma ? fmaf((float)a, (float)b, (float)c) : (float)((float)a * (float)b) + (float)c;
    }
    return d->has_fma ? fma(a, b, c) : a * b + c;
}

/* No state passes to step t from the step that runs before it, or from h0. */
static bool starts_anew(const struct call *const d, const int64_t t, const int64_t b, const int64_t length) {
    const struct fastrnn_linear *const c = &d->c;
    const bool from_first = c->direction == FASTRNN_FROM_FIRST_STEP;
    const int64_t reset = from_first ? t : t + 1; /* a reset stands before this step */
    if (c->resets && reset < length && c->resets[reset * c->resets_stride_t + b * c->resets_stride_b]) {
        return true;
    }
    return t == (from_first ? 0 : length - 1) && !d->tensors[H0].block;
}

static void plain_forward(const struct call *const d, const struct outputs *const to, const int64_t b, const int64_t j,
                          const int64_t length) {
    const enum fastrnn_dtype dtype = d->c.dtype;
    const bool from_first = d->c.direction == FASTRNN_FROM_FIRST_STEP;
    double state = d->tensors[H0].block && length ? number_at(&d->tensors[H0], dtype, 0, b, j) : 0;
    for (int64_t n = 0; n < length; n++) {
        const int64_t t = from_first ? n : length - 1 - n;
        const double x = number_at(&d->tensors[B], dtype, t, b, j), a = number_at(&d->tensors[A], dtype, t, b, j);
        state = starts_anew(d, t, b, length) ? x : multiply_add(d, a, state, x);
        put_number(&to->tensors[H], dtype, t, b, j, state);
    }
}

/* From the last step that ran to the first. `h` is forward's. */
static void plain_backward(const struct call *const d, const struct outputs *const to, const struct elements *const h,
                           const int64_t b, const int64_t j, const int64_t length) {
    const enum fastrnn_dtype dtype = d->c.dtype;
    const int64_t step = d->c.direction == FASTRNN_FROM_FIRST_STEP ? 1 : -1;
    const int64_t first = step > 0 ? 0 : length - 1;
    double g = 0, into_start = 0;
    for (int64_t n = length - 1; n >= 0; n--) {
        const int64_t t = first + n * step;
        const double own = number_at(&d->tensors[DH], dtype, t, b, j);
        const bool passes = n + 1 < length && !starts_anew(d, t + step, b, length);
        g = passes ? multiply_add(d, number_at(&d->tensors[A], dtype, t + step, b, j), g, own) : own;
        put_number(&to->tensors[DB], dtype, t, b, j, g);
        const bool is_new = starts_anew(d, t, b, length);
        if (to->tensors[DA].block) {
            const double before = is_new  ? 0
                                  : n > 0 ? number_at(h, dtype, t - step, b, j)
                                          : number_at(&d->tensors[H0], dtype, 0, b, j);
            put_number(&to->tensors[DA], dtype, t, b, j, is_new ? 0 : g * before);
        }
        into_start = n == 0 && !is_new ? number_at(&d->tensors[A], dtype, t, b, j) * g : 0;
    }
    if (to->tensors[DH0].block) {
        put_number(&to->tensors[DH0], dtype, 0, b, j, into_start);
    }
}

static void run_plainly(const struct call *const d, const struct outputs *const to) {
    for (int64_t b = 0; b < d->c.B; b++) {
        const int64_t length = d->c.lengths ? d->c.lengths[b] : d->c.T;
        for (int64_t j = 0; j < d->c.H; j++) {
            plain_forward(d, to, b, j, length);
            plain_backward(d, to, &to->tensors[H], b, j, length);
        }
    }
}

/* ---- calls ---- */

static struct fastrnn_tensor written(const struct elements *const x, const enum fastrnn_dtype dtype) {
    const ptrdiff_t first = x->first * (ptrdiff_t)real_bytes(dtype);
    return (struct fastrnn_tensor){x->block ? x->block + first : NULL, x->stride[0], x->stride[1], x->stride[2]};
}

static struct fastrnn_const_tensor read_only(const struct elements *const x, const enum fastrnn_dtype dtype) {
    const struct fastrnn_tensor view = written(x, dtype);
    return (struct fastrnn_const_tensor){view.data, view.stride_t, view.stride_b, view.stride_h};
}

static struct outputs new_outputs(const struct call *const d) {
    struct outputs found = {0};
    for (enum tensor_name j = INPUTS; j < NAMES; j++) {
        found.tensors[j] = d->tensors[j];
        found.tensors[j].block = d->wanted[j] ? take(d->tensors[j].bytes) : NULL;
    }
    return found;
}

static struct fastrnn_linear filled(const struct call *const d, const struct outputs *const to) {
    const enum fastrnn_dtype dtype = d->c.dtype;
    struct fastrnn_linear c = d->c;
    c.a = read_only(&d->tensors[A], dtype);
    c.b = read_only(&d->tensors[B], dtype);
    c.h0 = read_only(&d->tensors[H0], dtype);
    c.dh = read_only(&d->tensors[DH], dtype);
    c.h = written(&to->tensors[H], dtype);
    c.da = written(&to->tensors[DA], dtype);
    c.db = written(&to->tensors[DB], dtype);
    c.dh0 = written(&to->tensors[DH0], dtype);
    return c;
}

static void run_both(const struct call *const d, const int threads, const enum fastrnn_cut cut,
                     const struct outputs *const to) {
    struct fastrnn_linear c = filled(d, to);
    c.threads = threads;
    c.cut = cut;
    REQUIRE(fastrnn_run_linear(&c, FASTRNN_LINEAR_FORWARD) == FASTRNN_OK);
    REQUIRE(fastrnn_run_linear(&c, FASTRNN_LINEAR_BACKWARD) == FASTRNN_OK);
}

static void require_same(const struct call *const d, const struct outputs *const a, const struct outputs *const b) {
    for (enum tensor_name j = INPUTS; j < NAMES; j++) {
        REQUIRE(same_reals(a->tensors[j].block, b->tensors[j].block, a->tensors[j].block ? a->tensors[j].bytes : 0,
                           d->c.dtype));
    }
}

/* ---- the target ---- */

static void try_call(struct bytes *const from) {
    const struct call d = draw_call(from);
    unsigned char *before[INPUTS] = {0};
    for (enum tensor_name j = 0; j < INPUTS; j++) {
        before[j] = d.tensors[j].block ? take_copy(d.tensors[j].block, d.tensors[j].bytes) : NULL;
    }
    const struct outputs plain = new_outputs(&d), one = new_outputs(&d), other = new_outputs(&d);
    run_plainly(&d, &plain);
    run_both(&d, 1, FASTRNN_CUT_AUTO, &one);
    require_same(&d, &plain, &one);
    /* For a fifth thread, LLVM's OpenMP makes a table that it never frees. */
    const int threads = (int)(2 + draw_below(from, 3));
    run_both(&d, threads, (enum fastrnn_cut)draw_below(from, FASTRNN_CUT_COUNT), &other);
    require_same(&d, &plain, &other);
    for (enum tensor_name j = 0; j < INPUTS; j++) {
        REQUIRE(!before[j] || d.tensors[j].bytes == 0 ||
                memcmp(before[j], d.tensors[j].block, d.tensors[j].bytes) == 0);
    }
}

/* Sizes that fit no memory; the tensors are too small for most of them, so only calls that are refused are made. */
static void try_sizes(struct bytes *const from) {
    struct fastrnn_linear c = {.struct_size = sizeof c, .threads = 1, .backend = fastrnn_best_backend()};
    c.T = draw_wide(from), c.B = draw_wide(from), c.H = draw_wide(from);
    c.T = draw_bit(from) ? c.T : draw_below(from, 3);
    c.B = draw_bit(from) ? c.B : draw_below(from, 3);
    c.H = draw_bit(from) ? c.H : draw_below(from, 3);
    const bool is_empty = c.T >= 0 && c.B >= 0 && c.H >= 0 && (c.T == 0 || c.B == 0 || c.H == 0);
    const enum fastrnn_status status = fastrnn_run_linear(&c, FASTRNN_LINEAR_FORWARD);
    REQUIRE(status == FASTRNN_TOO_LARGE || status == FASTRNN_BAD_SIZE ||
            status == (is_empty ? FASTRNN_OK : FASTRNN_NULL_POINTER));
}

/* One wrong field in a sound call: a refusal with the field's status, before anything is written. */
static void try_wrong(struct bytes *const from) {
    const struct call d = draw_call(from);
    const struct outputs to = new_outputs(&d);
    struct fastrnn_linear c = filled(&d, &to);
    const bool backward = draw_bit(from), has_elements = c.T > 0 && c.B > 0 && c.H > 0;
    enum fastrnn_linear_pass pass = backward ? FASTRNN_LINEAR_BACKWARD : FASTRNN_LINEAR_FORWARD;
    enum fastrnn_status due = FASTRNN_BAD_SIZE;
    int64_t *const lengths = take_integers(c.B);
    for (int64_t b = 0; b < c.B; b++) {
        lengths[b] = c.T;
    }
    switch (draw_below(from, 12)) {
    case 0:
        c.struct_size--, due = FASTRNN_BAD_ARRAYS;
        break;
    case 1:
        pass = (enum fastrnn_linear_pass)(FASTRNN_LINEAR_PASS_COUNT + draw_byte(from)), due = FASTRNN_BAD_PLAN;
        break;
    case 2:
        c.dtype = (enum fastrnn_dtype)(FASTRNN_DTYPE_COUNT + draw_byte(from)), due = FASTRNN_BAD_DTYPE;
        break;
    case 3:
        c.backend = draw_bit(from) ? -1 : fastrnn_backend_count() + draw_byte(from), due = FASTRNN_BAD_BACKEND;
        break;
    case 4:
        c.threads = -draw_byte(from);
        break;
    case 5:
        c.cut = (enum fastrnn_cut)(FASTRNN_CUT_COUNT + draw_byte(from));
        break;
    case 6:
        c.T = -1 - draw_byte(from);
        break;
    case 7:
        c.B = -1 - draw_byte(from);
        break;
    case 8:
        c.H = -1 - draw_byte(from);
        break;
    case 9:
        c.direction = (enum fastrnn_direction)(2 + draw_byte(from)), due = FASTRNN_BAD_BATCH;
        break;
    case 10:
        if (c.B == 0) {
            return;
        }
        lengths[draw_below(from, c.B)] = draw_bit(from) ? -1 - draw_byte(from) : c.T + 1 + draw_byte(from);
        c.lengths = lengths, due = FASTRNN_BAD_BATCH;
        break;
    default:
        *(backward ? &c.db.data : &c.h.data) = NULL;
        due = has_elements ? FASTRNN_NULL_POINTER : FASTRNN_OK;
    }
    if (due == FASTRNN_OK) {
        return; /* an empty call needs no tensors; it may write dh0 */
    }
    REQUIRE(fastrnn_run_linear(&c, pass) == due);
    const struct outputs untouched = new_outputs(&d);
    require_same(&d, &untouched, &to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *const data, const size_t bytes) {
    struct bytes from = {data, data + bytes};
    const int kind = draw_byte(&from) % 16;
    if (kind == 15) {
        try_sizes(&from);
    } else if (kind >= 13) {
        try_wrong(&from);
    } else {
        try_call(&from);
    }
    release_all();
    return 0;
}
