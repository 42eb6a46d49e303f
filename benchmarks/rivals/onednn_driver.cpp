// oneDNN's RNN primitives behind a few C functions, for onednn_primitives.py. float32.
//
// A network is a chain of stages; a stage is one primitive of L layers of equal width and D directions. The caller's
// arrays are plain and contiguous. They have G gates in oneDNN's order (LSTM i f g o, GRU z r n, tanh RNN one) and
// N = G biases, or 4 for the GRU with the reset gate after the product: z r n and n's recurrent bias:
//
//     x, dx (T, B, I)    w_ih, dw_ih (L, D, G*H, I)    w_hh, dw_hh (L, D, G*H, H)    bias, dbias (L, D, N*H)
//     y, dy (T, B, D*H)
//
// The primitive chooses the formats of weights and of their gradients; reorders convert between the formats.
// The T steps are cut into windows. Each runs forward and backward; the state is carried on, its gradient is not. The
// initial state is h0 and c0, or zero. Past a sequence's end the last stage's y is zeroed; oneDNN has no lengths.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <dnnl.hpp>
#include <omp.h>

using dnnl::memory;
using tag = memory::format_tag;

enum Cell : int64_t { LSTM, GRU, RNN_TANH };

struct StageSpec {
    int64_t cell, T, B, I, H, L, D, windows, training;
    float *x, *w_ih, *w_hh, *bias, *y;
    float *h0, *c0; // (L, D, B, H); null: zero
    float *dx, *dw_ih, *dw_hh, *dbias, *dy; // null in inference
};

namespace {

thread_local std::string last_error;

const dnnl::engine &cpu() {
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    return engine;
}

dnnl::stream &stream() {
    static dnnl::stream stream(cpu());
    return stream;
}

memory::desc f32(const memory::dims &dims, tag format) { return {dims, memory::data_type::f32, format}; }

// A primitive and its arguments, bound once; execution allocates nothing.
class Bound {
  public:
    Bound() = default;
    Bound(const_dnnl_primitive_desc_t pd, const std::map<int, memory> &memories) : primitive(pd) {
        for (const auto &[name, memory] : memories)
            arguments.push_back({name, memory.get()});
    }
    void run() const {
        dnnl::error::wrap_c_api(
            dnnl_primitive_execute(primitive.get(), stream().get(), int(arguments.size()), arguments.data()),
            "could not execute a primitive");
    }

  private:
    dnnl::primitive primitive;
    std::vector<dnnl_exec_arg_t> arguments;
};

class Stage {
  public:
    explicit Stage(const StageSpec &s) : s(s), steps(s.T / s.windows) {
        describe();
        dnnl::primitive_desc_base forward_pd, backward_pd;
        forward_pd.reset(create_forward());
        bind(forward_pd, forward_memories);
        run_forward = Bound(forward_pd.get(), forward_memories);
        if (!s.training) {
            load();
            return;
        }
        backward_pd.reset(create_backward(forward_pd.get()));
        for (const int name :
             {DNNL_ARG_WORKSPACE, DNNL_ARG_SRC_ITER, DNNL_ARG_SRC_ITER_C, DNNL_ARG_DST_ITER, DNNL_ARG_DST_ITER_C})
            if (const auto found = forward_memories.find(name); found != forward_memories.end())
                backward_memories.insert(*found); // reads the results of forward
        bind(backward_pd, backward_memories);
        run_backward = Bound(backward_pd.get(), backward_memories);
    }
    Stage(const Stage &) = delete;

    // Reorder weights from the caller's layout to the primitives'.
    void load() const { run_all(loads); }

    // Reorder gradients of weights to the caller's layout.
    void store() const { run_all(stores); }

    void forward(int64_t window) {
        point_at_window(forward_memories, window);
        run_forward.run();
    }

    void backward(int64_t window) {
        if (window == 0 && windowed()) // oneDNN adds to the old contents
            for (const int name : {DNNL_ARG_DIFF_WEIGHTS_LAYER, DNNL_ARG_DIFF_WEIGHTS_ITER, DNNL_ARG_DIFF_BIAS})
                clear(backward_memories.at(name));
        point_at_window(backward_memories, window);
        run_backward.run();
    }

  private:
    static void run_all(const std::vector<Bound> &all) {
        for (const Bound &one : all)
            one.run();
    }

    static void clear(const memory &m) { std::memset(m.get_data_handle(), 0, m.get_desc().get_size()); }

    bool windowed() const { return s.windows > 1; }

    int64_t state_size() const { return s.L * s.D * s.B * s.H; }

    void describe() {
        const int64_t G = s.cell == LSTM ? 4 : s.cell == GRU ? 3 : 1, N = s.cell == GRU ? 4 : G;
        x = f32({steps, s.B, s.I}, tag::tnc);
        y = f32({steps, s.B, s.D * s.H}, tag::tnc);
        bias = f32({s.L, s.D, N, s.H}, tag::ldgo);
        plain_ih = f32({s.L, s.D, s.I, G, s.H}, tag::ldgoi);
        plain_hh = f32({s.L, s.D, s.H, G, s.H}, tag::ldgoi);
        w_ih = f32(plain_ih.get_dims(), tag::any);
        w_hh = f32(plain_hh.get_dims(), tag::any);
        direction = s.D == 2 ? dnnl_bidirectional_concat : dnnl_unidirectional_left2right;
        attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
        // Without an initial state, oneDNN 3.2 computes a wrong diff_weights_iter (LSTM and tanh RNN, last layer).
        if (s.training || s.h0)
            state = f32({s.L, s.D, s.B, s.H}, tag::ldnc);
        if (windowed())
            for (std::vector<float> &one : carried)
                one.resize((s.windows + 1) * state_size());
    }

    // A single run overwrites the gradients of weights; windows add to them.
    unsigned flags() const { return s.training && !windowed() ? dnnl_rnn_flags_diff_weights_overwrite : 0; }

    dnnl_primitive_desc_t create_forward() const {
        const auto kind = s.training ? dnnl_forward_training : dnnl_forward_inference;
        const auto h = state.get(true), c = h;
        dnnl_primitive_desc_t made = nullptr;
        dnnl_status_t status;
        if (s.cell == LSTM)
            status = dnnl_lstm_forward_primitive_desc_create(&made, cpu().get(), kind, direction, x.get(), h, c,
                                                             w_ih.get(), w_hh.get(), nullptr, nullptr, bias.get(),
                                                             y.get(), h, c, flags(), attributes.get());
        else if (s.cell == GRU)
            status = dnnl_lbr_gru_forward_primitive_desc_create(&made, cpu().get(), kind, direction, x.get(), h,
                                                                w_ih.get(), w_hh.get(), bias.get(), y.get(), h, flags(),
                                                                attributes.get());
        else
            status = dnnl_vanilla_rnn_forward_primitive_desc_create(
                &made, cpu().get(), kind, dnnl_eltwise_tanh, direction, x.get(), h, w_ih.get(), w_hh.get(), bias.get(),
                y.get(), h, flags(), 0.0f, 0.0f, attributes.get());
        dnnl::error::wrap_c_api(status, "no forward primitive");
        return made;
    }

    // A gradient has the descriptor of its array.
    dnnl_primitive_desc_t create_backward(const_dnnl_primitive_desc_t hint) const {
        const auto kind = dnnl_backward;
        const auto h = state.get(true), c = h;
        dnnl_primitive_desc_t made = nullptr;
        dnnl_status_t status;
        if (s.cell == LSTM)
            status = dnnl_lstm_backward_primitive_desc_create(
                &made, cpu().get(), kind, direction, x.get(), h, c, w_ih.get(), w_hh.get(), nullptr, nullptr,
                bias.get(), y.get(), h, c, x.get(), h, c, w_ih.get(), w_hh.get(), nullptr, nullptr, bias.get(), y.get(),
                h, c, flags(), hint, attributes.get());
        else if (s.cell == GRU)
            status = dnnl_lbr_gru_backward_primitive_desc_create(
                &made, cpu().get(), kind, direction, x.get(), h, w_ih.get(), w_hh.get(), bias.get(), y.get(), h,
                x.get(), h, w_ih.get(), w_hh.get(), bias.get(), y.get(), h, flags(), hint, attributes.get());
        else
            status = dnnl_vanilla_rnn_backward_primitive_desc_create(
                &made, cpu().get(), kind, dnnl_eltwise_tanh, direction, x.get(), h, w_ih.get(), w_hh.get(), bias.get(),
                y.get(), h, x.get(), h, w_ih.get(), w_hh.get(), bias.get(), y.get(), h, flags(), 0.0f, 0.0f, hint,
                attributes.get());
        dnnl::error::wrap_c_api(status, "no backward primitive");
        return made;
    }

    // Memory for every argument of the primitive; the caller's memory if the formats agree.
    void bind(const dnnl::primitive_desc_base &pd, std::map<int, memory> &memories) {
        const std::pair<int, float *> arguments[] = {{DNNL_ARG_SRC_LAYER, s.x},
                                                     {DNNL_ARG_SRC_ITER, s.h0},
                                                     {DNNL_ARG_SRC_ITER_C, s.c0},
                                                     {DNNL_ARG_WEIGHTS_LAYER, s.w_ih},
                                                     {DNNL_ARG_WEIGHTS_ITER, s.w_hh},
                                                     {DNNL_ARG_BIAS, s.bias},
                                                     {DNNL_ARG_DST_LAYER, s.y},
                                                     {DNNL_ARG_DST_ITER, nullptr},
                                                     {DNNL_ARG_DST_ITER_C, nullptr},
                                                     {DNNL_ARG_DIFF_SRC_LAYER, s.dx},
                                                     {DNNL_ARG_DIFF_SRC_ITER, nullptr},
                                                     {DNNL_ARG_DIFF_SRC_ITER_C, nullptr},
                                                     {DNNL_ARG_DIFF_WEIGHTS_LAYER, s.dw_ih},
                                                     {DNNL_ARG_DIFF_WEIGHTS_ITER, s.dw_hh},
                                                     {DNNL_ARG_DIFF_BIAS, s.dbias},
                                                     {DNNL_ARG_DIFF_DST_LAYER, s.dy},
                                                     {DNNL_ARG_DIFF_DST_ITER, nullptr},
                                                     {DNNL_ARG_DIFF_DST_ITER_C, nullptr},
                                                     {DNNL_ARG_WORKSPACE, nullptr},
                                                     {DNNL_ARG_SCRATCHPAD, nullptr}};
        for (const auto &[name, array] : arguments) {
            const memory::desc wanted = pd.query_md(dnnl::query::exec_arg_md, name);
            if (wanted.is_zero() || memories.count(name))
                continue;
            const bool of_ih = name == DNNL_ARG_WEIGHTS_LAYER || name == DNNL_ARG_DIFF_WEIGHTS_LAYER;
            const bool of_hh = name == DNNL_ARG_WEIGHTS_ITER || name == DNNL_ARG_DIFF_WEIGHTS_ITER;
            const memory::desc &plain = of_ih ? plain_ih : of_hh ? plain_hh : wanted;
            if (array && wanted == plain) {
                memories[name] = memory(wanted, cpu(), array);
                continue;
            }
            memories[name] = memory(wanted, cpu());
            clear(memories[name]);
            if (!array)
                continue;
            const memory inner = memories[name], user(plain, cpu(), array);
            held.push_back(user);
            const bool gradient = name == DNNL_ARG_DIFF_WEIGHTS_LAYER || name == DNNL_ARG_DIFF_WEIGHTS_ITER;
            const memory &from = gradient ? inner : user, &to = gradient ? user : inner;
            (gradient ? stores : loads)
                .emplace_back(dnnl::reorder::primitive_desc(from, to).get(),
                              std::map<int, memory>{{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
        }
    }

    // Point the arguments with a time axis, and the carried states, at a window.
    void point_at_window(std::map<int, memory> &memories, int64_t window) {
        if (!windowed())
            return;
        const auto point = [&](int name, float *begin, int64_t stride, int64_t index) {
            if (const auto found = memories.find(name); found != memories.end())
                found->second.set_data_handle(begin + index * stride);
        };
        point(DNNL_ARG_SRC_LAYER, s.x, steps * s.B * s.I, window);
        point(DNNL_ARG_DST_LAYER, s.y, steps * s.B * s.D * s.H, window);
        point(DNNL_ARG_DIFF_SRC_LAYER, s.dx, steps * s.B * s.I, window);
        point(DNNL_ARG_DIFF_DST_LAYER, s.dy, steps * s.B * s.D * s.H, window);
        point(DNNL_ARG_SRC_ITER, carried[0].data(), state_size(), window);
        point(DNNL_ARG_DST_ITER, carried[0].data(), state_size(), window + 1);
        point(DNNL_ARG_SRC_ITER_C, carried[1].data(), state_size(), window);
        point(DNNL_ARG_DST_ITER_C, carried[1].data(), state_size(), window + 1);
    }

    const StageSpec s;
    const int64_t steps; // of a window
    dnnl_rnn_direction_t direction;
    dnnl::primitive_attr attributes;
    memory::desc x, y, bias, state, plain_ih, plain_hh, w_ih, w_hh;
    std::vector<float> carried[2]; // h and c before the first window and after each
    std::map<int, memory> forward_memories, backward_memories;
    std::vector<memory> held;
    Bound run_forward, run_backward;
    std::vector<Bound> loads, stores;
};

struct Network {
    std::vector<std::unique_ptr<Stage>> stages;
    std::vector<int64_t> lengths; // of the B sequences
    StageSpec last;

    void run() {
        if (last.training)
            for (const auto &stage : stages)
                stage->load();
        for (int64_t window = 0; window < last.windows; ++window) {
            for (const auto &stage : stages)
                stage->forward(window);
            if (last.training)
                std::for_each(stages.rbegin(), stages.rend(), [=](const auto &stage) { stage->backward(window); });
        }
        if (last.training)
            for (const auto &stage : stages)
                stage->store();
        zero_past_the_end();
    }

    void zero_past_the_end() const {
        const int64_t width = last.D * last.H;
        for (int64_t b = 0; b < last.B; ++b)
            for (int64_t t = lengths[b]; t < last.T; ++t)
                std::fill_n(last.y + (t * last.B + b) * width, width, 0.0f);
    }
};

} // namespace

extern "C" {

const char *onednn_last_error() { return last_error.c_str(); }

const char *onednn_version() {
    static const std::string version = [](const dnnl_version_t &v) {
        return std::to_string(v.major) + "." + std::to_string(v.minor) + "." + std::to_string(v.patch);
    }(*dnnl_version());
    return version.c_str();
}

void onednn_set_threads(int threads) { omp_set_num_threads(threads); }

// A network over the caller's arrays, which must outlive it; null on errors, see onednn_last_error. lengths is (B,).
Network *onednn_open(const StageSpec *specs, int64_t count, const int64_t *lengths) {
    try {
        auto network = std::make_unique<Network>();
        for (int64_t i = 0; i < count; ++i)
            network->stages.push_back(std::make_unique<Stage>(specs[i]));
        network->last = specs[count - 1];
        network->lengths.assign(lengths, lengths + network->last.B);
        return network.release();
    } catch (const std::exception &error) {
        last_error = error.what();
        return nullptr;
    }
}

// Runs forward, and backward in training; returns 0, or -1 with onednn_last_error.
int onednn_run(Network *network) {
    try {
        network->run();
        return 0;
    } catch (const std::exception &error) {
        last_error = error.what();
        return -1;
    }
}

void onednn_close(Network *network) { delete network; }
}
