/* The rules of second products. */
#include <stddef.h>

#include "program_code.h"

unsigned program_product_gates(const struct fastrnn_program *const p) {
    unsigned gates = 0;
    for (int j = 0; j < p->product_count; j++) {
        gates |= 1U << p->products[j].gate;
    }
    return gates;
}

int program_slot_of_product(const struct fastrnn_program *const p, const int product) {
    int found = -1, count = 0;
    for (int j = 0; j < p->slot_count; j++) {
        if (p->slots[j].operand == FASTRNN_SLOT_OF_PRODUCT + product) {
            found = j;
            count++;
        }
    }
    return count == 1 ? found : -1;
}

static bool is_factor(const struct fastrnn_program *const p, const struct fastrnn_read *const read) {
    return (read->kind == FASTRNN_READ_Y && read->index == 0) ||
           (read->kind == FASTRNN_READ_SAVED && lies_in(read->index, 0, program_saved_vectors(p->table))) ||
           (read->kind == FASTRNN_READ_BEFORE && lies_in(read->index, 0, p->table->state_count));
}

static const char *error_of_product(const struct fastrnn_program *const p,
                                    const struct fastrnn_product *const product) {
    if (!lies_in(product->gate, 0, p->table->gates) || !(p->table->apart >> product->gate & 1)) {
        return "products: expected a gate that stays apart";
    }
    if (!lies_in(product->factor_count, 1, FASTRNN_FACTORS_MAX + 1)) {
        return "products: expected 1 or 2 factors";
    }
    for (int j = 0; j < product->factor_count; j++) {
        if (!is_factor(p, &product->factors[j])) {
            return "products: expected factors that are y, saved vectors or states before the step";
        }
    }
    return NULL;
}

const char *program_error_of_products(const struct fastrnn_program *const p) {
    if (!lies_in(p->product_count, 0, FASTRNN_PRODUCTS_MAX + 1) || (p->product_count && !p->products)) {
        return "products: expected at most 7";
    }
    for (int j = 0; j < p->product_count; j++) {
        const struct fastrnn_product *const product = &p->products[j];
        const char *const error = error_of_product(p, product);
        for (int k = 0; k < j && !error; k++) {
            const struct fastrnn_product *const other = &p->products[k];
            if (other->gate == product->gate || other->forward_phase == product->forward_phase ||
                (other->backward_phase == product->backward_phase && other->backward_phase)) {
                return "products: two have the same gate or the same phase";
            }
        }
        if (error) {
            return error;
        }
    }
    return NULL;
}

const char *program_error_of_product_phases(const struct fastrnn_program *const p) {
    for (int j = 0; j < p->product_count; j++) {
        const struct fastrnn_product *const product = &p->products[j];
        const int slot = program_slot_of_product(p, j);
        if (slot < 0) {
            return "products: expected one slot with each product";
        }
        const int kept = code_phase_of_write(&p->forward, FASTRNN_WRITE_KEPT, product->kept);
        if (!lies_in(product->forward_phase, 1, p->forward.phase_count) || !lies_in(kept, 0, product->forward_phase)) {
            return "products: forward has not kept a vector before the product's phase";
        }
        const int written = code_phase_of_write(&p->backward, FASTRNN_WRITE_SLOT, slot);
        if (!lies_in(product->backward_phase, 0, p->backward.phase_count) ||
            (product->backward_phase && !lies_in(written, 0, product->backward_phase))) {
            return "products: backward has not written the slot before the product's phase";
        }
    }
    return NULL;
}

bool program_has_factor_before(const struct fastrnn_program *const p, const int state) {
    for (int j = 0; j < p->product_count; j++) {
        for (int k = 0; k < p->products[j].factor_count; k++) {
            const struct fastrnn_read *const factor = &p->products[j].factors[k];
            if (factor->kind == FASTRNN_READ_BEFORE && factor->index == state) {
                return true;
            }
        }
    }
    return false;
}
