/* demo: `evictd demo`: the main job on an embedded default, nothing to install or configure. */
#pragma once

/** @return exit code */
int demo_main(int argc, char **argv);
