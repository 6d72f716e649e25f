/* How much of a step runs on one thread alone, by processor time, which other work on the machine
 * does not change. */
#ifndef PARE_SERIAL_H
#define PARE_SERIAL_H

/* Seconds so far: of the first thread outside parallel regions of several threads, and of all
 * threads. Threads that wait must sleep (OMP_WAIT_POLICY=passive), or their waiting counts. */
struct serial {
    double alone, all;
};
struct serial serial_now(void);

#endif
