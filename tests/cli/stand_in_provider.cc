// A library without content, to be found among the maps of a program that `shunt run` started.
extern "C" __attribute__((visibility("default"))) int shunt_stand_in_provider() { return 0; }
