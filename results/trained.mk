# The runs of the models trained on MNIST and CIFAR-10, with $BENCH_DATA set: hours on one core. Slow attacks meet fewer
# images. What is there is not made again; a run that was interrupted goes on, and what has no folder yet is still to come.
MAT_MNIST := natural_mnist_cnn madry_mnist_cnn trades_mnist_cnn mmc_mnist_cnn \
	mat_mnist_cnn_plain mat_mnist_cnn_so mat_mnist_cnn_bibo mat_mnist_cnn
MAT_CIFAR10 := natural_wrn madry_wrn trades_wrn mmc_wrn mmc_at_wrn mat_wrn_plain mat_wrn_so mat_wrn_bibo mat_wrn
# The wide nets are slow: those that were not attacked first meet fewer images.
HOLDING := madry_wrn trades_wrn mmc_wrn mmc_at_wrn mat_wrn_plain mat_wrn_bibo mat_wrn
ADR_MNIST := adv_mnist_cnn adr_mnist_cnn
ADR_CIFAR10 := adv_cifar10_cnn adr_cifar10_cnn
BILATERAL_MNIST := bilateral_mnist_cnn
BILATERAL_CIFAR10 := bilateral_wrn
# By the short recipes that table 1, 2 and 5 of the bilateral paper ask for; the first was trained with half the eps.
BILATERAL_EPS4 := bilateral_wrn_plus_eps4
BILATERAL_OTHERS := bilateral_wrn_sup bilateral_wrn_2000pc bilateral_wrn_500pc bilateral_wrn_plus bilateral_wrn_sup_plus \
	bilateral_wrn_rand bilateral_wrn_mosa
# ADR's other cuts of the latent layer.
CUTS := conv2 conv3 fc1 fc2
ADR_MNIST_CUTS := $(CUTS:%=adr_mnist_cnn_%)
ADR_CIFAR10_CUTS := $(CUTS:%=adr_cifar10_cnn_%)
ER_MNIST := er_mnist_short madry_er_mnist_short
ER_MNIST_OTHERS := er_mnist_clean_short ecla_mnist_short ecla_mnist_minmax_short
ER_CIFAR10_DETECTORS := kd lid
ER_MNIST_DETECTORS := kd lid er_mnist_short er_mnist_clean_short ecla_mnist_short ecla_mnist_minmax_short
ATTACKED_AT_8 := $(BILATERAL_EPS4) $(BILATERAL_OTHERS)
CIFAR10 := $(MAT_CIFAR10) $(ADR_CIFAR10) $(BILATERAL_CIFAR10) $(ATTACKED_AT_8) $(ADR_CIFAR10_CUTS)
TRAINED := $(MAT_MNIST) $(CIFAR10) $(ADR_MNIST) $(ADR_MNIST_CUTS) $(BILATERAL_MNIST) $(ER_MNIST) $(ER_MNIST_OTHERS)

runs = $(foreach part,$(2),$(1:%=results/runs/%-$(part)/verdicts.csv.gz))
MODEL = $(firstword $(subst -, ,$(notdir $(@D))))
ON_MODEL = --model $(MODEL) --out $(@D) --resume
KEEP = gzip -n -9 $(@D)/verdicts.csv
.PHONY: results-mnist results-cifar10 results-adr results-bilateral results-er

results-mnist: $(call runs,$(MAT_MNIST),accuracy apgd slow cw probes sweep)
results-cifar10: $(call runs,$(MAT_CIFAR10),accuracy slow cw probes sweep steps8 steps16 printed)
results-adr: $(call runs,$(ADR_MNIST),accuracy apgd slow hundred surfaces)
results-adr: $(call runs,$(ADR_CIFAR10),accuracy slow hundred iterated)
results-adr: $(call runs,$(ADR_MNIST_CUTS) $(ADR_CIFAR10_CUTS),two)
results-bilateral: $(call runs,$(BILATERAL_MNIST),accuracy apgd slow)
results-bilateral: $(call runs,$(BILATERAL_MNIST) madry_mnist_cnn,thousand l2 gradients)
results-bilateral: $(call runs,$(BILATERAL_CIFAR10),accuracy slow gradients)
results-bilateral: $(call runs,$(BILATERAL_CIFAR10) madry_wrn,four)
results-bilateral: $(call runs,$(ATTACKED_AT_8),columns)
results-bilateral: $(call runs,$(BILATERAL_EPS4) trades_wrn,thousand within)
results-er: $(call runs,$(ER_MNIST),accuracy apgd slow sweep codes)
results-er: $(call runs,$(ER_MNIST_OTHERS),accuracy codes)
results-er: $(ER_MNIST_DETECTORS:%=results/runs/natural_mnist_cnn-detect-%/scores.csv.gz)
results-er: $(ER_CIFAR10_DETECTORS:%=results/runs/natural_wrn-detect-%/scores.csv.gz)

# How many images, how far a sweep goes, and from which robust model examples are carried over.
N := 500
REACH := 0.4
SWEPT := 200
FEW := 100
$(call runs,$(CIFAR10),slow cw): FEW := 50
FROM = $(if $(filter madry_%,$(MODEL)),trades,madry)_mnist_cnn
# PGD as the field runs it on MNIST, with Madry's step, beside our default.
USUAL := $(COMMA)pgd(step_size=0.01)
$(call runs,$(HOLDING) mat_wrn_so,probes steps8 steps16 printed): N := 250
$(call runs,$(filter-out natural_wrn mat_wrn_so,$(CIFAR10)),accuracy hundred iterated two four columns thousand gradients): N := 250
# The weights of the model trained with half the eps say 4/255.
$(call runs,$(ATTACKED_AT_8),accuracy columns thousand within): ON_MODEL += --norm linf --eps 8/255
$(call runs,$(MAT_CIFAR10),sweep): REACH := 16/255
$(call runs,$(MAT_CIFAR10),sweep): SWEPT := 100
$(call runs,$(CIFAR10),accuracy): USUAL :=
$(call runs,$(CIFAR10),accuracy): FROM = $(if $(filter madry_%,$(MODEL)),mat,madry)_wrn

$(call runs,$(TRAINED),accuracy): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks \
		"noise,fgsm,pgd$(USUAL),apgd_ce,ddn,adaptive,transfer(model='$(FROM)')"
	$(KEEP)

# The other losses of APGD: the strongest here of a known cost.
$(call runs,$(TRAINED),apgd): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "apgd_dlr,apgd_t(targets=3)"
	$(KEEP)

$(call runs,$(TRAINED),slow): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(FEW) --attacks "square,autoattack"
	$(KEEP)

# C&W from a constant of 1: what was stored with `slow` starts at 1e-3, and its four searches end at 1, which breaks 6 to
# 41 % of the images of an adversarially trained net.
$(call runs,$(TRAINED),cw): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(FEW) --attacks "cw(searches=5,steps=200,lr=0.05,c0=1)"
	$(KEEP)

$(call runs,$(TRAINED),sweep): | $(READY)
	$(BIN)/bench sweep-eps $(ON_MODEL) --attack pgd,margin -n $(SWEPT) --eps 0:$(REACH):9
	$(KEEP)

# The images themselves are too large to keep: what probes saw in them stays. The natural model's is asked for the data's
# own dimension, for the ER-Classifier's table 2.
PROBES = match_rate,embedding,gradients,rescaled$(if $(filter mat_% mmc_%,$(MODEL)),$(COMMA)cosine)$(if \
	$(filter natural_%,$(MODEL)),$(COMMA)intrinsic_dimension)
$(call runs,$(ADR_MNIST),surfaces): PROBES := embedding(negative=300),gradients,surface
$(call runs,$(BILATERAL_MNIST) $(BILATERAL_CIFAR10) madry_mnist_cnn,gradients): PROBES := gradients
$(call runs,$(ER_MNIST) $(ER_MNIST_OTHERS),codes): PROBES := intrinsic_dimension,rademacher_surface,plane,gradients
$(call runs,$(TRAINED),probes surfaces gradients codes): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks pgd,ddn --save-adversarial
	$(BIN)/bench probe $(@D) --probes "$(PROBES)"
	rm $(@D)/adversarial.npz
	$(KEEP)

# MAT's table 3: these steps, at two eps, on CIFAR-10 alone.
$(call runs,$(MAT_CIFAR10),steps8): EPS := 8/255
$(call runs,$(MAT_CIFAR10),steps16): EPS := 16/255
TEN := pgd(steps=10,step_size=2/256),pgd(steps=10,step_size=2/256,targeted=True)
FIFTY := pgd(steps=50,step_size=2/256),pgd(steps=50,step_size=2/256,targeted=True)
$(call runs,$(MAT_CIFAR10),steps8 steps16): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --norm linf --eps $(EPS) --attacks "$(TEN),$(FIFTY)"
	$(KEEP)

# PGD as the printed numbers were likely made; on MNIST it is among the others.
$(call runs,$(MAT_CIFAR10),printed): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "pgd(steps=20,step_size=0.003)"
	$(KEEP)

# ADR's tables: a hundred steps, and toward every class; its own attack on the model that was not trained by it too. On
# CIFAR-10 BIM and MIM have a run of their own, and the other cuts have PGD alone.
HUNDRED = step_size=$(if $(findstring _cifar10_cnn,$(MODEL)),0.007,0.01),steps=100
BIM_AND_MIM = bim($(HUNDRED)),mim($(HUNDRED)),bim_multi_targeted($(HUNDRED)),mim_multi_targeted($(HUNDRED))
OWN = adr(lc=1,gb=1,smt=1$(if $(filter %_cifar10_cnn,$(MODEL)),$(COMMA)conf=1))
$(call runs,$(ADR_MNIST) $(ADR_CIFAR10),hundred): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "pgd($(HUNDRED)),multi_targeted($(HUNDRED)),multi_margin$(if \
		$(filter %_mnist_cnn,$(MODEL)),$(COMMA)$(BIM_AND_MIM))$(if $(filter adv_%,$(MODEL)),$(COMMA)$(OWN))"
	$(KEEP)

$(call runs,$(ADR_CIFAR10),iterated): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "$(BIM_AND_MIM)"
	$(KEEP)

$(call runs,$(ADR_MNIST_CUTS) $(ADR_CIFAR10_CUTS),two): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "pgd($(HUNDRED)),multi_targeted($(HUNDRED))"
	$(KEEP)

# The bilateral paper's tables: up to a thousand steps, and two settings of C&W within the ball.
OFTEN := pgd(steps=20,step_size=0.075),pgd(steps=100,step_size=0.075),pgd(steps=1000,step_size=0.075)
$(call runs,$(BILATERAL_MNIST) madry_mnist_cnn,thousand): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "$(OFTEN),margin(steps=100,step_size=0.075),mim,multi_margin,$(TWO)"
	$(KEEP)

# On CIFAR-10 a thousand steps are too many: the other four.
FOUR_FEW := pgd(steps=20,step_size=2/255),pgd(steps=100,step_size=2/255),margin(steps=100,step_size=2/255)
$(call runs,$(BILATERAL_CIFAR10) madry_wrn,four): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "$(FOUR_FEW)"
	$(KEEP)

$(call runs,$(ATTACKED_AT_8),columns): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "fgsm,$(FOUR_FEW)"
	$(KEEP)

# Table 1 on CIFAR-10; the paper prints one C&W of TRADES, and nothing of both settings but for its own model.
$(call runs,$(BILATERAL_EPS4) trades_wrn,thousand): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "mim,pgd(steps=1000,step_size=2/255)"
	$(KEEP)

$(call runs,$(BILATERAL_EPS4) trades_wrn,within): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n 100 --attacks "mim,cw_within,deepfool_within$(if \
		$(filter bilateral_%,$(MODEL)),$(COMMA)cw_within(lr=0.01$(COMMA)steps=1000))"
	$(KEEP)

$(call runs,$(BILATERAL_MNIST) madry_mnist_cnn,l2): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --norm l2 --attacks "$(UNBOUNDED)"
	$(KEEP)

# The supplement's high confidence on MNIST is 9, on CIFAR-10 20. C&W as is enough for the natural nets.
CW_MNIST := cw(searches=4,steps=50,lr=0.1,c0=1)
SURE_MNIST := cw(searches=4,steps=50,lr=0.1,c0=1,confidence=9)
CW_CIFAR10 := cw(searches=4,steps=50,lr=0.01,c0=0.1)
SURE_CIFAR10 := cw(searches=3,steps=50,lr=0.02,c0=1,confidence=20)
$(ER_MNIST_DETECTORS:%=results/runs/natural_mnist_cnn-detect-%/scores.csv.gz): results/runs/natural_mnist_cnn-detect-%/scores.csv.gz: | $(READY)
	rm -rf $(@D)
	$(BIN)/bench detect --model natural_mnist_cnn --detector "$(if $(filter kd lid,$*),$*,er(encoder='$*'))" --out $(@D) \
		-n $(N) \
		--attacks "fgsm,pgd,$(CW_MNIST),$(SURE_MNIST)" --fit-attack "fgsm,pgd,$(CW_MNIST)"
	gzip -n -9 $(@D)/scores.csv

$(ER_CIFAR10_DETECTORS:%=results/runs/natural_wrn-detect-%/scores.csv.gz): results/runs/natural_wrn-detect-%/scores.csv.gz: | $(READY)
	rm -rf $(@D)
	$(BIN)/bench detect --model natural_wrn --detector $* --out $(@D) -n 250 \
		--attacks "fgsm,pgd,$(CW_CIFAR10),$(SURE_CIFAR10)" --fit-attack "fgsm,pgd,$(CW_CIFAR10)"
	gzip -n -9 $(@D)/scores.csv
