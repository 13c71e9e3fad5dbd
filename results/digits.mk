# Everything under results/ that needs no download: a run of each digits model, its tables and the baseline of CI.
DIGITS := natural_digits madry_digits trades_digits mmc_digits mat_digits_plain mat_digits_so mat_digits_bibo mat_digits
.PHONY: results $(DIGITS:%=results/runs/%) $(DIGITS:%=results/runs/%-probes) $(DIGITS:%=results/runs/%-sweep)

results: $(DIGITS:%=results/runs/%) $(DIGITS:%=results/runs/%-probes) $(DIGITS:%=results/runs/%-sweep)
	$(MAKE) tables
	$(BIN)/bench check --baseline results/baseline.csv $(DIGITS:%=--add results/runs/%)

$(DIGITS:%=results/runs/%): $(READY)
	rm -rf $@
	$(BIN)/bench run --model $(@F) --attacks noise,fgsm,pgd,multi_targeted,ddn,adaptive --out $@
	gzip -n -9 $@/verdicts.csv

# The images themselves are too large to keep: what probes saw in them stays.
COMMA := ,
$(DIGITS:%=results/runs/%-probes): $(READY)
	rm -rf $@
	$(BIN)/bench run --model $(@F:-probes=) --attacks pgd,ddn --save-adversarial --out $@
	$(BIN)/bench probe $@ --probes match_rate,embedding,gradients,rescaled$(if $(filter mat_% mmc_%,$(@F)),$(COMMA)cosine)
	rm $@/adversarial.npz
	gzip -n -9 $@/verdicts.csv

$(DIGITS:%=results/runs/%-sweep): $(READY)
	rm -rf $@
	$(BIN)/bench sweep-eps --model $(@F:-sweep=) --attack pgd,margin --out $@
	gzip -n -9 $@/verdicts.csv

# ADR's tables ask for 100 steps, and for attacks toward every class; these runs are not in the baseline of CI.
ADR := adv_digits adr_digits
SIX := pgd(steps=100),bim(steps=100,step_size=1/150),mim(steps=100,step_size=1/150),bim_multi_targeted,mim_multi_targeted
.PHONY: $(ADR:%=results/runs/%) $(ADR:%=results/runs/%-probes)
results: $(ADR:%=results/runs/%) $(ADR:%=results/runs/%-probes)

$(ADR:%=results/runs/%): $(READY)
	rm -rf $@
	$(BIN)/bench run --model $(@F) --out $@ --attacks "noise,fgsm,pgd,multi_targeted,ddn,adaptive,$(SIX),multi_margin$(if \
		$(filter adv_%,$(@F)),$(COMMA)adr(lc=1$(COMMA)gb=1$(COMMA)smt=1))"
	gzip -n -9 $@/verdicts.csv

$(ADR:%=results/runs/%-probes): $(READY)
	rm -rf $@
	$(BIN)/bench run --model $(@F:-probes=) --attacks pgd --save-adversarial --out $@
	$(BIN)/bench probe $@ --probes "embedding(negative=300),gradients,surface"
	rm $@/adversarial.npz
	gzip -n -9 $@/verdicts.csv

# The bilateral paper's four attacks, its two settings of C&W and the worst of more; on the baseline beside it too.
BILATERAL := bilateral_digits bilateral_digits_sup madry_digits
FOUR := fgsm,pgd(steps=20,step_size=0.05),pgd(steps=100,step_size=0.05),margin(steps=100,step_size=0.05)
TWO := cw_within,cw_within(lr=0.01,steps=1000),deepfool_within
UNBOUNDED := cw(searches=5,steps=100,lr=0.1,c0=100),deepfool
.PHONY: $(BILATERAL:%=results/runs/%-bilateral) $(BILATERAL:%=results/runs/%-l2)
results: $(BILATERAL:%=results/runs/%-bilateral) $(BILATERAL:%=results/runs/%-l2)

$(BILATERAL:%=results/runs/%-bilateral): $(READY)
	rm -rf $@
	$(BIN)/bench run --model $(@F:-bilateral=) --out $@ --save-adversarial --attacks \
		"noise,pgd,$(FOUR),pgd(steps=1000,step_size=0.05),mim,multi_margin,$(TWO),adaptive"
	$(BIN)/bench probe $@ --probes gradients
	rm $@/adversarial.npz
	gzip -n -9 $@/verdicts.csv

$(BILATERAL:%=results/runs/%-l2): $(READY)
	rm -rf $@
	$(BIN)/bench run --model $(@F:-l2=) --norm l2 --attacks "$(UNBOUNDED)" --out $@
	gzip -n -9 $@/verdicts.csv

# The ER-Classifier and its detectors; not in the baseline of CI either.
ER := er_digits er_digits_clean ecla_digits ecla_digits_minmax madry_er_digits
ER_PLANES := er_digits er_digits_clean ecla_digits madry_er_digits er_digits_z2 ecla_digits_z2
ER_SWEEPS := er_digits_clean er_digits_z2 er_digits_z16 er_digits_uniform er_digits_cauchy madry_er_digits
ER_DETECTORS := kd lid er_digits_clean er_digits ecla_digits ecla_digits_minmax
CW := cw(searches=4,steps=100)
SURE := cw(searches=4,steps=100,confidence=5)
.PHONY: $(ER:%=results/runs/%) $(ER_PLANES:%=results/runs/%-codes) $(ER_SWEEPS:%=results/runs/%-sweep)
.PHONY: $(ER_DETECTORS:%=results/runs/natural_digits-detect-%)
results: $(ER:%=results/runs/%) $(ER_PLANES:%=results/runs/%-codes) $(ER_SWEEPS:%=results/runs/%-sweep)
results: $(ER_DETECTORS:%=results/runs/natural_digits-detect-%)

$(ER:%=results/runs/%): $(READY)
	rm -rf $@
	$(BIN)/bench run --model $(@F) --attacks noise,fgsm,pgd,multi_targeted,adaptive --out $@
	gzip -n -9 $@/verdicts.csv

$(ER_PLANES:%=results/runs/%-codes): $(READY)
	rm -rf $@
	$(BIN)/bench run --model $(@F:-codes=) --attacks pgd --save-adversarial --out $@
	$(BIN)/bench probe $@ --probes intrinsic_dimension,rademacher_surface,plane,gradients
	rm $@/adversarial.npz
	gzip -n -9 $@/verdicts.csv

$(ER_SWEEPS:%=results/runs/%-sweep): $(READY)
	rm -rf $@
	$(BIN)/bench sweep-eps --model $(@F:-sweep=) --attack pgd --eps 0:0.2:9 --out $@
	gzip -n -9 $@/verdicts.csv

$(ER_DETECTORS:%=results/runs/natural_digits-detect-%): results/runs/natural_digits-detect-%: $(READY)
	rm -rf $@
	$(BIN)/bench detect --model natural_digits --detector "$(if $(filter kd lid,$*),$*,er(encoder='$*'))" --out $@ \
		--attacks "fgsm,pgd,$(CW),$(SURE)" --fit-attack "fgsm,pgd,$(CW)"
	gzip -n -9 $@/scores.csv
