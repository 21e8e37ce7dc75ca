/* The modern presets are models that Hugging Face has: its NanoChat. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_modern_presets(void **state) {
    (void)state;
    const char *const names[] = {"shakespeare-cpu", "shakespeare", "modern-124m"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        static Settings s;
        Error e;
        options_defaults(&s);
        assert_true(preset_apply(&s, names[i], &e));
        const Options *o = &s.options;
        assert_string_equal(o->positions, "rotary-reversed");
        assert_string_equal(o->norm, "rmsnorm-plain");
        assert_string_equal(o->activation, "relu2");
        assert_string_equal(o->optimizer, "muon");
        assert_true(o->qk_norm && o->embed_norm && !o->tie_embeddings && !o->bias);
        assert_true(o->softcap == 15 && o->rope_base == 10000 && o->lr > 0);
        assert_string_equal(o->format, "hf");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_modern_presets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
