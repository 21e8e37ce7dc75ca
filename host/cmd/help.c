/* `puck help [COMMAND]`, and what every subcommand begins and ends with. */
#include "cmd.h"
#include "dist.h"
#include <stdio.h>
#include <string.h>

bool cmd_parse(Settings *s, int command, int argc, char **argv, int *code) {
    Error e;
    bool help;
    *code = EXIT_DONE;
    if (!dist_agree(options_parse(s, command, argc, argv, &help, &e), &e)) {
        *code = cmd_fail(&e);
        return false;
    }
    if (help) options_help(command, stdout);
    return !help;
}

int cmd_fail(const Error *e) {
    error_print(e);
    return e->code;
}

int cmd_call(int command, int argc, char **argv, bool (*run)(Settings *, Error *)) {
    Settings s;
    Error e;
    int code;
    if (!cmd_parse(&s, command, argc, argv, &code)) return code;
    return run(&s, &e) ? EXIT_DONE : cmd_fail(&e);
}

const char *const *cmd_names(void) {
    static const char *const names[] = {"train", "generate", "eval", "tokenize", "info",
                                        "bench", "plot",     "embed", "classify", "help", NULL};
    return names;
}

/* Bit of a command's options: in the order of cmd_names. */
static int command_bit(const char *name) {
    for (int i = 0; 1 << i < CMD_ALL; i++)
        if (!strcmp(cmd_names()[i], name)) return 1 << i;
    return 0;
}

void cmd_overview(void) {
    printf("puck trains GPT-class language models.\n\n"
           "usage: puck COMMAND [options]\n\n"
           "  train      train a model on a text, or go on with a run\n"
           "  generate   write text with a model\n"
           "  eval       measure a model's loss on a text\n"
           "  tokenize   turn texts into files of tokens, or show them\n"
           "  info       show a checkpoint, a preset or this machine\n"
           "  bench      measure operations and training steps\n"
           "  plot       draw the losses of runs, or what a model attends to\n"
           "  embed      ask a model's embedding which words are alike\n"
           "  classify   say which class each line of text is of\n"
           "  help       `puck help COMMAND`, or `puck COMMAND --help`: every option\n\n"
           "`puck help` shows common calls.\n");
}

static void write_examples(void) {
    printf("\nCommon calls\n"
           "  puck train --preset shakespeare-cpu-gpt2 --data TEXT.txt --run runs/first\n"
           "  puck train --preset gpt2 --data TOKENS_DIR --run runs/gpt2 --dry-run\n"
           "  puck train --data TEXT.txt --run runs/mine --layers 4 --heads 4 --channels 128 "
           "--steps 500\n"
           "  puck generate --from runs/first --prompt \"ROMEO:\" --tokens 300 --temperature 0.8\n"
           "  puck generate --from runs/first --fill \"The cat sat on the ___\"\n"
           "  puck eval --from runs/first --data TEXT.txt --split val\n"
           "  puck tokenize --input TEXT.txt --tokenizer char --output TOKENS_DIR\n"
           "  puck info --from runs/first\n"
           "  puck bench step --preset shakespeare-cpu-gpt2\n"
           "  puck plot runs/first runs/mine --output losses.svg\n"
           "  puck plot --from runs/first --attention \"to be or not\" --output attention.html\n"
           "  puck embed nearest king --from runs/words\n"
           "  puck train --task classify --data LABELLED.tsv --run runs/classes\n"
           "\nPresets\n");
    preset_list(stdout);
    printf("\nAn option is `--name value` or `--name=value`; `_` equals `-`; --no-NAME is off.\n"
           "Values come from defaults, then --preset, then --config FILE, then the other options.\n"
           "Results go to standard output, everything else to standard error.\n"
           "Exit codes: 0 done, 1 failed, 2 called wrongly, 75 saved on a signal.\n");
}

int cmd_help(int argc, char **argv) {
    if (argc < 2 || !strcmp(argv[1], "help") || argv[1][0] == '-') {
        cmd_overview();
        write_examples();
        return EXIT_DONE;
    }
    Error e;
    const int bit = command_bit(argv[1]);
    if (bit && argc > 2) {
        error_misuse(&e, argv[2], "Name one command", "help explains one command at a time");
        return cmd_fail(&e);
    }
    if (bit) {
        options_help(bit, stdout);
        return EXIT_DONE;
    }
    char hint[128] = "`puck help` lists the commands";
    const char *nearest = options_nearest(argv[1], cmd_names());
    if (nearest) snprintf(hint, sizeof hint, "Did you mean `puck help %s`?", nearest);
    error_misuse(&e, NULL, hint, "there is no command \"%.64s\"", argv[1]);
    return cmd_fail(&e);
}
