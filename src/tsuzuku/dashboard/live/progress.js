// How far the training is: what the server says first, then what every event changes.

const MINUTE = 60; // the pace of the last minute says when it will be done
const PACES = 400;

export class Progress {
  constructor() {
    this.clear();
  }

  clear() {
    Object.assign(this, {
      epoch: null, epochs: null, step: null, steps: null, globalStep: null,
      loss: null, rate: null, speed: null, share: 0, eta: null,
    });
    this.paces = []; // [time, global step]
  }

  /** Take the answer of `GET /api/progress`. */
  load(answer) {
    Object.assign(this, {
      epoch: answer.current_epoch, epochs: answer.total_epochs,
      step: answer.current_step, steps: answer.total_steps, globalStep: answer.global_step,
      loss: answer.current_loss, rate: answer.current_learning_rate,
      speed: answer.samples_per_second, share: answer.progress, eta: answer.eta_seconds,
    });
    if (this.share >= 1) this.complete();
  }

  /** Take an event of the type `progress`. */
  take({ payload, time }) {
    const back = payload.global_step <= (this.globalStep ?? -1);
    if (back) this.paces = []; // another attempt: the time in between was no training
    Object.assign(this, {
      epoch: payload.epoch, epochs: payload.total_epochs,
      step: payload.step, steps: payload.total_steps, globalStep: payload.global_step,
      loss: payload.loss, rate: payload.learning_rate, speed: payload.samples_per_second,
    });
    const whole = this.steps * this.epochs;
    const done = this.steps * (this.epoch - 1) + this.step;
    this.share = whole ? Math.min(1, done / whole) : 0;
    this.paces.push([time, payload.global_step]);
    while (this.paces.length > PACES || time - this.paces[0][0] > MINUTE) this.paces.shift();
    const [since, from] = this.paces[0];
    const gone = payload.global_step - from;
    if (gone > 0 && time > since) this.eta = ((whole - done) * (time - since)) / gone;
    else if (back) this.eta = null;
  }

  /** A new attempt has begun, or an attempt has ended: there is no pace. */
  pause() {
    this.paces = [];
    this.eta = null;
    this.speed = null;
  }

  /** All is done, also what came after the last event; with early stopping not all epochs. */
  complete() {
    this.pause();
    this.share = 1;
    this.step = this.steps;
  }
}
